//! Who really runs a model: the share of each provider, measured in a throw-away session with profiling.
//!
//! "Registered" says nothing: a provider may register and take no node at all (XNNPACK does so with U8S8 models), or
//! the model may be so fast on it that its share of time looks small. Hence two shares: of the nodes that multiply and
//! add, and of kernel time.
//!
//! Owns: reading ONNX Runtime's profile. Does not know: frames, boxes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use serde::{Deserialize, Serialize};

use crate::provider::{Form, Provider};

/// Runs that are measured.
pub(crate) const RUNS: usize = 5;
/// Folders of processes that were killed, at most.
const MOST_LEFTOVERS: usize = 10_000;

/// What became of one provider of the wish.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Registration {
    /// Which.
    pub provider: Provider,
    /// Why it is not used; null where it is registered.
    pub refused: Option<String>,
}

/// What one provider ran.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ProviderShare {
    /// Name in the configuration, or ONNX Runtime's where it has none there.
    pub provider: String,
    /// Nodes that it ran.
    pub nodes: usize,
    /// Of the nodes that multiply and add (convolutions, matrix products, whole compiled graphs): its part, 0..1.
    pub mac_share: f64,
    /// Its part of all kernel time, 0..1.
    pub time_share: f64,
}

/// Which provider runs a model, as wished, as registered and as measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ProviderReport {
    /// ONNX Runtime's version.
    pub runtime: String,
    /// The form that runs.
    pub form: Form,
    /// As configured.
    pub requested: Vec<Provider>,
    /// What became of each that was tried.
    pub registrations: Vec<Registration>,
    /// Largest share of the multiplying nodes first. Empty where it could not be measured; the log says why.
    pub shares: Vec<ProviderShare>,
}

impl ProviderReport {
    /// The provider that runs most of the multiplying nodes: what events and the status page name.
    pub fn provider(&self) -> &str {
        let registered = || self.registrations.iter().find(|r| r.refused.is_none());
        match self.shares.first() {
            Some(share) => &share.provider,
            None => registered().map_or("cpu", |r| r.provider.name()),
        }
    }

    /// Its share of the multiplying nodes, 0..1; 0 where it could not be measured.
    pub fn share(&self) -> f64 {
        self.shares.first().map_or(0.0, |share| share.mac_share)
    }

    /// What `provider` runs of the multiplying nodes; none where nothing was measured.
    pub fn share_of(&self, provider: Provider) -> Option<f64> {
        let found = self.shares.iter().find(|share| share.provider == provider.name());
        (!self.shares.is_empty()).then(|| found.map_or(0.0, |share| share.mac_share))
    }
}

/// Why there is no profile to read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProfileError {
    #[error("{path}: {source}", path = .path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("the profile is no list of events: {0}")]
    Format(#[from] serde_json::Error),
    #[error("the profile has no kernel in it")]
    Empty,
    #[error("{0}")]
    Session(String),
}

/// A folder for one profile, removed with all in it.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn create() -> Result<Self, ProfileError> {
        Self::create_in(&std::env::temp_dir())
    }

    /// A process that was killed leaves its folder, and the next one can have its number: in a container always.
    fn create_in(parent: &Path) -> Result<Self, ProfileError> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let mut last = None;
        for _ in 0..MOST_LEFTOVERS {
            let number = COUNT.fetch_add(1, Ordering::Relaxed);
            let path = parent.join(format!("vedette-profile-{}-{number}", std::process::id()));
            // Not `create_dir_all`: a folder that somebody else put there is not ours to write to.
            match fs::create_dir(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(source) => {
                    let taken = source.kind() == std::io::ErrorKind::AlreadyExists;
                    let error = ProfileError::File { path, source };
                    if !taken {
                        return Err(error);
                    }
                    last = Some(error);
                }
            }
        }
        Err(last.unwrap_or(ProfileError::Empty))
    }

    /// What the profile's name begins with.
    pub(crate) fn prefix(&self) -> PathBuf {
        self.0.join("profile")
    }

    pub(crate) fn read(file: &str) -> Result<Vec<ProviderShare>, ProfileError> {
        let path = Path::new(file);
        let text = fs::read_to_string(path)
            .map_err(|source| ProfileError::File { path: path.to_owned(), source })?;
        shares(&text)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            log::debug!("{}: {error}", self.0.display());
        }
    }
}

#[derive(Deserialize)]
struct Event {
    #[serde(default)]
    cat: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    dur: u64,
    #[serde(default)]
    args: Args,
}

#[derive(Default, Deserialize)]
struct Args {
    #[serde(default)]
    provider: String,
    #[serde(default)]
    op_name: String,
}

#[derive(Default)]
struct Tally<'a> {
    nodes: BTreeSet<&'a str>,
    mac_nodes: BTreeSet<&'a str>,
    micros: u64,
}

/// The shares in a profile (a JSON list of events).
fn shares(text: &str) -> Result<Vec<ProviderShare>, ProfileError> {
    let events: Vec<Event> = serde_json::from_str(text)?;
    let mut tallies: BTreeMap<&str, Tally<'_>> = BTreeMap::new();
    for event in events.iter().filter(|e| e.cat == "Node" && e.name.ends_with("_kernel_time")) {
        let tally = tallies.entry(&event.args.provider).or_default();
        tally.nodes.insert(&event.name);
        if multiplies(&event.args.op_name) {
            tally.mac_nodes.insert(&event.name);
        }
        tally.micros += event.dur;
    }
    if tallies.is_empty() {
        return Err(ProfileError::Empty);
    }
    let mac_nodes: usize = tallies.values().map(|t| t.mac_nodes.len()).sum();
    let micros: u64 = tallies.values().map(|t| t.micros).sum();
    let share = |part: f64, all: f64| if all > 0.0 { part / all } else { 0.0 };
    let mut shares: Vec<_> = tallies
        .iter()
        .map(|(provider, tally)| ProviderShare {
            provider: short_name(provider),
            nodes: tally.nodes.len(),
            mac_share: share(tally.mac_nodes.len() as f64, mac_nodes as f64),
            time_share: share(tally.micros as f64, micros as f64),
        })
        .collect();
    shares.sort_by(|a, b| {
        (b.mac_share, b.time_share)
            .partial_cmp(&(a.mac_share, a.time_share))
            .unwrap_or(std::cmp::Ordering::Equal)
    });
    Ok(shares)
}

fn short_name(ort_name: &str) -> String {
    let known = Provider::ALL.into_iter().find(|p| p.ort_name() == ort_name);
    known.map_or_else(|| ort_name.to_owned(), |p| p.name().to_owned())
}

/// Convolutions and matrix products under all their fused names, and graphs that a provider compiled as a whole.
fn multiplies(op: &str) -> bool {
    let compiled = op.contains("ExecutionProvider") || op.contains("TRTKernel");
    compiled
        || op.contains("Conv")
        || op.contains("Gemm")
        || op.contains("MatMul")
        || op.contains("Attention")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, op: &str, provider: &str, dur: u64) -> String {
        let args = format!(r#"{{"op_name":"{op}","provider":"{provider}","node_index":"1"}}"#);
        format!(r#"{{"cat":"Node","name":"{name}_kernel_time","dur":{dur},"ph":"X","args":{args}}}"#)
    }

    #[test]
    fn a_fast_provider_is_not_punished_for_being_fast() {
        let session = r#"{"cat":"Session","name":"model_run","dur":900,"args":{}}"#.to_owned();
        let (xnnpack, cpu) = ("XnnpackExecutionProvider", "CPUExecutionProvider");
        let events = [
            session,
            event("c1", "QLinearConv", xnnpack, 10),
            event("c2", "Conv", xnnpack, 10),
            event("c2", "Conv", xnnpack, 10),
            event("c3", "MatMul", xnnpack, 10),
            event("c4", "Conv", cpu, 20),
            event("s", "Softmax", cpu, 40),
        ];
        let shares = shares(&format!("[{}]", events.join(","))).unwrap();
        assert_eq!(shares[0].provider, "xnnpack");
        assert_eq!((shares[0].nodes, shares[0].mac_share, shares[0].time_share), (3, 0.75, 0.4));
        assert_eq!((shares[1].provider.as_str(), shares[1].mac_share), ("cpu", 0.25));
    }

    #[test]
    fn what_killed_processes_left_is_in_nobody_s_way() {
        let parent = tempfile::tempdir().unwrap();
        let next = Folder::create_in(parent.path()).unwrap();
        let (stem, number) = next.0.to_str().unwrap().rsplit_once('-').unwrap();
        let number: u32 = number.parse().unwrap();
        // Other tests of this process take numbers too, elsewhere.
        (number + 1..number + 200).for_each(|n| fs::create_dir(format!("{stem}-{n}")).unwrap());
        let folder = Folder::create_in(parent.path()).unwrap();
        assert!(folder.0.is_dir() && folder.0 != next.0);
    }

    #[test]
    fn a_profile_without_kernels_is_an_error() {
        assert!(matches!(shares("[]"), Err(ProfileError::Empty)));
        assert!(matches!(shares("[{\"cat\":"), Err(ProfileError::Format(_))));
    }
}
