//! Which decoder a camera gets: what is configured, and which there are in what order.

use std::collections::VecDeque;
use std::fmt;

use vedette_core::CameraId;

use super::gst::GstDecoder;
use super::trial::Selected;
use super::{Decoder, Outlet};
use crate::description::DescriptionKind;
use crate::libav::LibavDecoder;
use crate::{Codec, Description, Descriptions, Fault, Masks, StreamInfo};

/// The rank of `libav` among the decode descriptions: hardware is above, GStreamer's software decoders below.
const LIBAV_RANK: i32 = 1;

/// What decodes a camera's stream.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum DecoderChoice {
    /// The first that works: hardware where there is any, `libav`, GStreamer's software decoders.
    #[default]
    Auto,
    /// libavcodec without a pipeline around it.
    Libav,
    /// A description of kind `decode`.
    Description(String),
}

impl DecoderChoice {
    /// By its name in the configuration: `auto`, `libav`, or that of a description, which is not looked up here.
    pub fn of(name: &str) -> Self {
        match name {
            "auto" => Self::Auto,
            "libav" => Self::Libav,
            other => Self::Description(other.to_owned()),
        }
    }

    /// Its name in the configuration.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Auto => "auto",
            Self::Libav => "libav",
            Self::Description(name) => name,
        }
    }

    /// Refuses a name that no description of kind `decode` has.
    pub fn check(&self, descriptions: &Descriptions) -> Result<(), Fault> {
        match self {
            Self::Auto | Self::Libav => Ok(()),
            Self::Description(name) => {
                descriptions.of_kind(name, &[DescriptionKind::Decode]).map(|_| ()).map_err(|fault| Fault {
                    remedy: "give `auto`, `libav` or one of pipelines/descriptions".to_owned(),
                    ..fault
                })
            }
        }
    }
}

/// Whether `libav` smooths the edges of blocks, as the standard has it.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum LoopFilter {
    /// Not: a quarter less CPU, and pictures that differ from the full ones by 43 to 44 dB.
    #[default]
    Skip,
    /// As the encoder meant it.
    Full,
}

/// How a camera is decoded.
#[derive(Clone, Debug, Default)]
pub struct DecoderConfig {
    /// For log lines.
    pub camera: Option<CameraId>,
    /// Which decoder. Default: `auto`.
    pub decoder: DecoderChoice,
    /// Of `libav`. Default: skipped.
    pub loop_filter: LoopFilter,
}

impl DecoderConfig {
    /// Opens what is chosen for a stream. With `auto` the first that starts is on trial: where it gives no ten frames
    /// of the stream, the next takes over from the last keyframe, unnoticed by who takes the frames.
    ///
    /// # Errors
    /// A decoder that is not here or not for this codec; with `auto`, that of the last one.
    pub fn open(
        &self,
        descriptions: &Descriptions,
        stream: &StreamInfo,
        masks: &Masks,
    ) -> Result<Box<dyn Decoder>, Fault> {
        let (candidates, absent) = self.candidates(descriptions, stream.codec)?;
        let setup = Setup {
            camera: self.camera.clone(),
            loop_filter: self.loop_filter,
            stream: stream.clone(),
            masks: masks.clone(),
        };
        Ok(Box::new(Selected::start(setup, candidates, absent)?))
    }

    /// Those there are for a codec, best first, and why others are none.
    fn candidates(
        &self,
        descriptions: &Descriptions,
        codec: Codec,
    ) -> Result<(VecDeque<Candidate>, Vec<String>), Fault> {
        match &self.decoder {
            DecoderChoice::Libav => Ok(([Candidate::Libav].into(), Vec::new())),
            DecoderChoice::Description(name) => {
                let description = descriptions.decoder_of_name(name, codec)?;
                Ok(([Candidate::Description(Box::new(description.clone()))].into(), Vec::new()))
            }
            DecoderChoice::Auto => {
                let (mut here, mut absent) = (VecDeque::new(), Vec::new());
                let ranked = descriptions.decoders(codec);
                let at = ranked.partition_point(|d| d.rank > LIBAV_RANK);
                let libav = LibavDecoder::knows(codec).then_some(None);
                let (above, below) = ranked.split_at(at);
                let all = above.iter().map(Some).chain(libav).chain(below.iter().map(Some));
                for candidate in all {
                    match candidate.map(|d| (d, d.missing().next())) {
                        None => here.push_back(Candidate::Libav),
                        Some((d, None)) => here.push_back(Candidate::Description(Box::new((*d).clone()))),
                        Some((d, Some(element))) => absent.push(format!("`{}` needs {element}", d.name)),
                    }
                }
                if here.is_empty() {
                    return Err(descriptions.no_decoder(codec));
                }
                Ok((here, absent))
            }
        }
    }
}

/// A decoder that may be tried.
#[derive(Clone, Debug)]
pub(super) enum Candidate {
    Libav,
    Description(Box<Description>),
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Libav => f.write_str("`libav`"),
            Self::Description(description) => write!(f, "`{}`", description.name),
        }
    }
}

/// What every candidate is opened with.
pub(super) struct Setup {
    pub(super) camera: Option<CameraId>,
    pub(super) loop_filter: LoopFilter,
    pub(super) stream: StreamInfo,
    pub(super) masks: Masks,
}

impl Setup {
    pub(super) fn open(&self, candidate: &Candidate, outlet: &Outlet) -> Result<Box<dyn Decoder>, Fault> {
        let (masks, outlet) = (&self.masks, outlet.clone());
        Ok(match candidate {
            Candidate::Libav => {
                Box::new(LibavDecoder::open(self.stream.codec, self.loop_filter, masks, outlet)?)
            }
            Candidate::Description(description) => {
                Box::new(GstDecoder::start(description, &self.stream, masks, outlet)?)
            }
        })
    }
}
