//! What comes out of a receive pipeline: encoded access units, and what they are.

use std::fmt;
use std::sync::Arc;

use vedette_core::Mono;

use crate::Fault;

/// How a stream is coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    /// ITU-T H.264, AVC.
    H264,
    /// ITU-T H.265, HEVC.
    H265,
    /// Motion JPEG.
    Mjpeg,
}

impl Codec {
    /// Every codec that is received.
    pub const ALL: [Self; 3] = [Self::H264, Self::H265, Self::Mjpeg];

    /// As in description names and configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::H264 => "h264",
            Self::H265 => "h265",
            Self::Mjpeg => "mjpeg",
        }
    }

    /// By the encoding name of RTP (RFC 6184, RFC 7798, RFC 2435).
    pub(crate) fn of_rtp(encoding: &str) -> Option<Self> {
        match encoding {
            "H264" => Some(Self::H264),
            "H265" => Some(Self::H265),
            "JPEG" => Some(Self::Mjpeg),
            _ => None,
        }
    }

    /// By the media type of GStreamer caps.
    pub(crate) fn of_media_type(name: &str) -> Option<Self> {
        match name {
            "video/x-h264" => Some(Self::H264),
            "video/x-h265" => Some(Self::H265),
            "image/jpeg" => Some(Self::Mjpeg),
            _ => None,
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::H264 => "H.264",
            Self::H265 => "H.265",
            Self::Mjpeg => "MJPEG",
        })
    }
}

/// What a stream is, as its parser found it. May change in the middle of a stream.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamInfo {
    /// How it is coded.
    pub codec: Codec,
    /// For example `high` or `main`; absent for MJPEG.
    pub profile: Option<String>,
    /// Pixels; 0 where the stream does not say.
    pub width: u32,
    /// Pixels; 0 where the stream does not say.
    pub height: u32,
    /// Frames a second as the stream declares them; many cameras declare none or a wrong one.
    pub fps: Option<f64>,
    /// GStreamer caps, as text: what a decoder has to be told.
    pub caps: String,
}

impl StreamInfo {
    /// Width over height of the picture as it is meant to be seen; none where the stream does not say its size.
    pub fn aspect(&self) -> Option<f32> {
        let ratio = self.caps.split_once("pixel-aspect-ratio=(fraction)").map(|(_, rest)| {
            let end = rest.find([',', ';']).unwrap_or(rest.len());
            rest[..end]
                .split_once('/')
                .and_then(|(n, d)| Some(n.parse::<f32>().ok()? / d.parse::<f32>().ok()?))
        });
        let pixel = ratio.flatten().filter(|r| r.is_finite() && *r > 0.0).unwrap_or(1.0);
        (self.width > 0 && self.height > 0).then(|| self.width as f32 * pixel / self.height as f32)
    }
}

/// One encoded access unit: everything of one picture. Cheap to clone.
#[derive(Clone)]
pub struct Packet {
    /// H.264 and H.265: Annex B with parameter sets before each keyframe. MJPEG: one JPEG file.
    pub data: Arc<[u8]>,
    /// Presentation time on the pipeline's own line, in nanoseconds; starts anew at each connection.
    pub stream_pts: Option<u64>,
    /// The camera's wall clock at capture, from RTCP sender reports; absent before the first report.
    pub reference: Option<jiff::Timestamp>,
    /// When it came in here.
    pub arrival: Mono,
    /// Whether decoding can begin with it.
    pub keyframe: bool,
    /// Whether no other packet refers to it, so that it may be left out. Keyframes are never so marked: of MJPEG,
    /// where all are keyframes, any may be left out.
    pub droppable: bool,
    /// What stream it is of.
    pub stream: Arc<StreamInfo>,
}

impl fmt::Debug for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.keyframe { " keyframe" } else { "" };
        write!(f, "Packet({}{kind}, {} B at {:?})", self.stream.codec, self.data.len(), self.stream_pts)
    }
}

/// What a receiver gives.
#[derive(Clone, Debug)]
pub enum Item {
    /// The next access unit.
    Packet(Packet),
    /// The end of this stream and why; nothing comes after it.
    Fault(Fault),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_as_wide_as_its_pixels_make_it() {
        struct Case((u32, u32), &'static str, Option<f32>);
        let cases = [
            Case((640, 360), "video/x-h264", Some(16.0 / 9.0)),
            Case((704, 576), "video/x-h264, pixel-aspect-ratio=(fraction)16/11, x=1", Some(16.0 / 9.0)),
            Case((640, 360), "video/x-h264, pixel-aspect-ratio=(fraction)0/0", Some(16.0 / 9.0)),
            Case((0, 0), "video/x-h264", None),
        ];
        for Case((width, height), caps, expected) in cases {
            let (codec, caps) = (Codec::H264, caps.to_owned());
            let found = StreamInfo { codec, profile: None, width, height, fps: None, caps }.aspect();
            assert!(
                found.zip(expected).map_or(found == expected, |(a, b)| (a - b).abs() < 0.01),
                "{found:?}"
            );
        }
    }
}
