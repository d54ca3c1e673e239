//! Execution providers: their names, what each wants of a model, and how one is registered on a session.
//!
//! Owns: the list of providers. Does not know: model files, tensors. A registration says nothing about who will run
//! the model: that is measured (`profile.rs`).

use std::fmt;
use std::num::NonZeroUsize;
use std::path::Path;
use std::str::FromStr;

use ort::ep;
use ort::session::builder::SessionBuilder;

use crate::tensorrt::TensorRtOptions;

/// Who may run a model; in configuration by these names, in order of wish.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// NVIDIA TensorRT.
    TensorRt,
    /// NVIDIA CUDA.
    Cuda,
    /// Intel OpenVINO.
    OpenVino,
    /// XNNPACK: ARM's fast int8.
    Xnnpack,
    /// ONNX Runtime's own kernels: always there.
    Cpu,
}

/// The numeric form of a model file.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// 32-bit floats: the origin of the others.
    Fp32,
    /// uint8 activations, int8 weights: 1.8x faster than fp32 on the CPU provider, not taken at all by XNNPACK.
    U8s8,
    /// int8 activations, symmetric, int8 weights: for XNNPACK and TensorRT, slower than fp32 on the CPU provider.
    S8s8,
}

/// What registering a provider may need to know.
#[derive(Clone, Copy)]
pub(crate) struct Settings<'a> {
    /// Threads of one inference.
    pub threads: usize,
    pub tensorrt: &'a TensorRtOptions,
    /// Where TensorRT keeps this model's engines.
    pub engines: Option<&'a Path>,
}

/// A name that no provider or form has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no {what} `{name}`; there are: {known}")]
pub struct UnknownName {
    /// `provider` or `form`.
    pub what: &'static str,
    /// The name asked for.
    pub name: String,
    /// Those there are.
    pub known: String,
}

fn by_name<T: Copy>(what: &'static str, all: &[(T, &str)], name: &str) -> Result<T, UnknownName> {
    all.iter().find(|(_, n)| *n == name).map(|(value, _)| *value).ok_or_else(|| UnknownName {
        what,
        name: name.to_owned(),
        known: all.iter().map(|(_, n)| *n).collect::<Vec<_>>().join(", "),
    })
}

impl Provider {
    /// Every provider, fastest hardware first.
    pub const ALL: [Self; 5] = [Self::TensorRt, Self::Cuda, Self::OpenVino, Self::Xnnpack, Self::Cpu];

    /// As written in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TensorRt => "tensorrt",
            Self::Cuda => "cuda",
            Self::OpenVino => "openvino",
            Self::Xnnpack => "xnnpack",
            Self::Cpu => "cpu",
        }
    }

    /// As ONNX Runtime calls it in profiles.
    pub const fn ort_name(self) -> &'static str {
        match self {
            Self::TensorRt => "TensorrtExecutionProvider",
            Self::Cuda => "CUDAExecutionProvider",
            Self::OpenVino => "OpenVINOExecutionProvider",
            Self::Xnnpack => "XnnpackExecutionProvider",
            Self::Cpu => "CPUExecutionProvider",
        }
    }

    /// The forms it runs well, best first. The wrong one costs 1.7 to 9 times, silently, and is therefore not here.
    pub const fn forms(self) -> &'static [Form] {
        match self {
            Self::TensorRt | Self::Xnnpack => &[Form::S8s8, Form::Fp32],
            Self::OpenVino | Self::Cpu => &[Form::U8s8, Form::Fp32],
            Self::Cuda => &[Form::Fp32],
        }
    }

    /// Registers it on a session to be built. The error is ONNX Runtime's reason, one line.
    pub(crate) fn register(self, builder: &mut SessionBuilder, settings: Settings<'_>) -> Result<(), String> {
        let dispatch = match self {
            Self::TensorRt => settings.tensorrt.provider(settings.engines).build(),
            Self::Cuda => ep::CUDA::default().build(),
            Self::OpenVino => ep::OpenVINO::default().with_num_threads(settings.threads.max(1)).build(),
            Self::Xnnpack => ep::XNNPACK::default().with_intra_op_num_threads(NonZeroUsize::MIN).build(),
            // Always registered, last.
            Self::Cpu => return Ok(()),
        };
        dispatch.register(builder).map_err(|e| self.explain(e.to_string().trim().replace('\n', " ")))
    }

    /// ONNX Runtime's reason, with what to do about it where that is not evident.
    fn explain(self, reason: String) -> String {
        match self {
            Self::OpenVino => format!(
                "{reason} (an ONNX Runtime built with OpenVINO is needed: this program drives it at level api-21, \
                 which has no plug-in providers)"
            ),
            Self::Xnnpack => format!(
                "{reason} (an ONNX Runtime built with XNNPACK is needed: Debian 13's libonnxruntime1.21 is one)"
            ),
            Self::TensorRt | Self::Cuda | Self::Cpu => reason,
        }
    }

    /// Threads of a session in which these providers run, where `wished` were asked for: one with XNNPACK. Its own
    /// pool spins while it waits, and so do its threads and the session's against each other: on busy cores two
    /// threads gave a fifth of the frames for 17 times the processor time of one.
    pub(crate) fn session_threads(providers: &[Self], wished: usize) -> usize {
        if providers.contains(&Self::Xnnpack) { 1 } else { wished.max(1) }
    }

    /// Configuration entries of a session in which these providers run. XNNPACK's S8S8 leaves the graph's seams to the
    /// CPU provider, which takes int8 pairs whole only if told so: 29.5 ms instead of 39.6 for NanoDet-g (x86, one
    /// thread). Where the CPU provider runs the convolutions too it costs 5 times, so nowhere else.
    ///
    /// Of `saturates` see [`u8s8_saturates`]: the CPU provider then turns int8 weights of U8S8 files into uint8. That is
    /// 2.6 times the time (NanoDet-g on a processor with VNNI and the entry forced: 8.45 ms instead of 3.28), hence
    /// only where it must be.
    pub(crate) fn session_entries(providers: &[Self], saturates: bool) -> Vec<(&'static str, &'static str)> {
        if providers.contains(&Self::Xnnpack) {
            // Its files are S8S8.
            return vec![("session.qdqisint8allowed", "1")];
        }
        saturates.then_some(("session.x64quantprecision", "1")).into_iter().collect()
    }
}

/// Whether this processor adds products of uint8 and int8 in 16 bits, cut where they do not fit: x86-64 before VNNI.
/// ONNX Runtime has to be told, else scores drift without an error.
pub fn u8s8_saturates() -> bool {
    #[cfg(target_arch = "x86_64")]
    let (x64, vnni) = (true, is_x86_feature_detected!("avx512vnni") || is_x86_feature_detected!("avxvnni"));
    #[cfg(not(target_arch = "x86_64"))]
    let (x64, vnni) = (false, false);
    saturates(x64, vnni)
}

/// What to tell people where [`u8s8_saturates`].
pub const U8S8_SLOW: &str = "this processor has no VNNI, and would cut int8 sums: the CPU provider computes u8s8 files \
     with uint8 weights, exactly and more slowly";

const fn saturates(x64: bool, vnni: bool) -> bool {
    x64 && !vnni
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Provider {
    type Err = UnknownName;
    fn from_str(name: &str) -> Result<Self, UnknownName> {
        by_name("provider", &Self::ALL.map(|p| (p, p.name())), name)
    }
}

impl Form {
    /// Every form.
    pub const ALL: [Self; 3] = [Self::Fp32, Self::U8s8, Self::S8s8];

    /// As written in manifests and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fp32 => "fp32",
            Self::U8s8 => "u8s8",
            Self::S8s8 => "s8s8",
        }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Form {
    type Err = UnknownName;
    fn from_str(name: &str) -> Result<Self, UnknownName> {
        by_name("form", &Self::ALL.map(|f| (f, f.name())), name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_same_everywhere() {
        for provider in Provider::ALL {
            assert_eq!(provider.name().parse(), Ok(provider));
            assert_eq!(serde_json::to_value(provider).unwrap(), provider.name());
        }
        for form in Form::ALL {
            assert_eq!(form.name().parse(), Ok(form));
            assert_eq!(serde_json::to_value(form).unwrap(), form.name());
        }
        let error = "gpu".parse::<Provider>().unwrap_err();
        assert_eq!(error.to_string(), "no provider `gpu`; there are: tensorrt, cuda, openvino, xnnpack, cpu");
    }

    #[test]
    fn a_session_with_xnnpack_has_one_thread() {
        use Provider::{Cpu, Cuda, Xnnpack};
        assert_eq!(Provider::session_threads(&[Cuda, Xnnpack], 4), 1);
        assert_eq!(Provider::session_threads(&[Cpu], 4), 4);
        assert_eq!(Provider::session_threads(&[], 0), 1);
    }

    #[test]
    fn only_a_session_with_xnnpack_lets_the_cpu_provider_take_int8_pairs() {
        let entry = ("session.qdqisint8allowed", "1");
        assert_eq!(Provider::session_entries(&[Provider::Xnnpack], false), [entry]);
        for other in [Provider::TensorRt, Provider::Cuda, Provider::OpenVino, Provider::Cpu] {
            assert!(Provider::session_entries(&[other], false).is_empty(), "{other}");
        }
    }

    #[test]
    fn only_x86_64_without_vnni_computes_u8s8_with_uint8_weights() {
        for (x64, vnni, wanted) in
            [(true, false, true), (true, true, false), (false, false, false), (false, true, false)]
        {
            let entries = Provider::session_entries(&[Provider::Cpu], saturates(x64, vnni));
            assert_eq!(entries.contains(&("session.x64quantprecision", "1")), wanted, "{x64} {vnni}");
        }
    }

    #[test]
    fn no_provider_is_given_the_form_it_is_slow_in() {
        assert!(!Provider::Cpu.forms().contains(&Form::S8s8));
        assert!(!Provider::Xnnpack.forms().contains(&Form::U8s8));
    }
}
