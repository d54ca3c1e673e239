//! The clips that cameras play in tests and in the demo, made once with ffmpeg.
//!
//! Owns: the recipes and the cache. Does not know: who plays them.
//!
//! The footage is `vtest.avi` of Debian's `opencv-doc` (PETS 2009, 768x576 at 10 fps: people on a campus). The
//! whole picture is stretched, never cropped, so that zones in 0..1 of the picture mean the same on every clip.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where Debian's `opencv-doc` puts the footage; with `.gz` where doc files are compressed.
const FOOTAGE: &str = "/usr/share/doc/opencv-doc/examples/data/vtest.avi";
/// Seconds of a small clip: enough for four GOPs.
const SMALL_SECONDS: &str = "8";
/// Seconds of a scene in which nothing happens: a seam of the clip, which is no part of the scene, is rare.
const STILL_SECONDS: &str = "120";

/// Why a clip could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ClipMakerError {
    /// The demo shows real people, so nothing stands in for the footage.
    #[error("{FOOTAGE}(.gz) is missing: apt-get install --no-install-recommends opencv-doc")]
    NoFootage,
    /// A file or a program could not be used.
    #[error("{what}: {source}")]
    Io {
        /// The file or program.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A program failed; its reason is on stderr.
    #[error("{program} could not make {out}: {status}")]
    Failed {
        /// `ffmpeg` or `gzip`.
        program: &'static str,
        /// What was to be made.
        out: PathBuf,
        /// How it ended.
        status: std::process::ExitStatus,
    },
}

/// What clips there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Kind {
    /// The demo: 1920x1080 at 25 fps, real speed, H.264 High without B-frames, GOP 2 s, 79.5 s, about 4 Mbit/s VBR.
    Demo,
    /// 640x360 at 25 fps, H.264 without B-frames, GOP 2 s.
    H264,
    /// The same with 2 B-frames.
    #[value(name = "h264-b")]
    H264B,
    /// The same without B-frames in 4:2:2: no picture for `libav`.
    #[value(name = "h264-422")]
    H264Chroma,
    /// The same in H.265, without B-frames.
    H265,
    /// The same in MJPEG with the Huffman tables that RTP takes for granted (RFC 2435, 4.1).
    Mjpeg,
    /// H.264 without B-frames at 480x270: what `size` turns to.
    Size,
    /// The demo at a constant bit rate of 4 Mbit/s, as most cameras send.
    DemoCbr,
    /// The demo at 640x360, about 0.6 Mbit/s VBR.
    #[value(name = "demo-360")]
    Demo360,
    /// The demo's scene without people (the median of the footage) and with sensor noise: 1080p25 VBR, GOP 2 s.
    Still,
    /// The same at a constant bit rate of 4 Mbit/s.
    StillCbr,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Demo => "demo",
            Self::H264 => "h264",
            Self::H264B => "h264-b",
            Self::H264Chroma => "h264-422",
            Self::H265 => "h265",
            Self::Mjpeg => "mjpeg",
            Self::Size => "size",
            Self::DemoCbr => "demo-cbr",
            Self::Demo360 => "demo-360",
            Self::Still => "still",
            Self::StillCbr => "still-cbr",
        }
    }

    /// How much of the footage; none: all 79.5 s.
    const fn seconds(self) -> Option<&'static str> {
        match self {
            Self::Demo | Self::DemoCbr | Self::Demo360 => None,
            Self::Still | Self::StillCbr => Some(STILL_SECONDS),
            _ => Some(SMALL_SECONDS),
        }
    }

    /// Whether it shows the footage's people, or the place they are in: nothing stands in for it then.
    const fn needs_footage(self) -> bool {
        matches!(self, Self::Demo | Self::DemoCbr | Self::Demo360 | Self::Still | Self::StillCbr)
    }

    /// Output options of ffmpeg. A fixed number of threads: x264's output depends on it.
    fn recipe(self) -> Vec<String> {
        let (width, height) = match self {
            Self::Demo | Self::DemoCbr | Self::Still | Self::StillCbr => (1920, 1080),
            Self::Size => (480, 270),
            _ => (640, 360),
        };
        let scale = format!("scale={width}:{height}:flags=bicubic,setsar=1");
        let filter = match self {
            // The median of every third frame of 72 s, which nobody stands still for, again and again, each time with
            // new noise.
            Self::Still | Self::StillCbr => format!(
                "select='not(mod(n,3))',tmedian=radius=120,trim=start_frame=1:end_frame=2,loop=loop=-1:size=1,\
                 setpts=N/25/TB,{scale},noise=alls=4:allf=t:all_seed=1"
            ),
            // Blending 10 into 25 fps before scaling: a fifth of the pixels.
            _ => format!("framerate=fps=25:scene=100,{scale}"),
        };
        let codec = match self {
            // 37 s of CPU; `medium` would take 84 s for a quarter more picture quality per bit.
            Self::Demo => {
                "-c:v libx264 -preset veryfast -profile:v high -crf 19 -maxrate 8M -bufsize 16M -bf 0 -refs 1 -g 50 \
                 -keyint_min 50 -sc_threshold 0 -pix_fmt yuv420p -threads 2"
            }
            Self::Still => {
                "-r 25 -c:v libx264 -preset veryfast -profile:v high -crf 23 -bf 0 -refs 1 -g 50 -keyint_min 50 \
                 -sc_threshold 0 -pix_fmt yuv420p -threads 2"
            }
            Self::DemoCbr | Self::StillCbr => {
                "-r 25 -c:v libx264 -preset veryfast -profile:v high -b:v 4M -minrate 4M -maxrate 4M -bufsize 2M \
                 -bf 0 -refs 1 -g 50 -keyint_min 50 -sc_threshold 0 -pix_fmt yuv420p -threads 2"
            }
            Self::H264 | Self::Size | Self::Demo360 => {
                "-c:v libx264 -preset veryfast -profile:v high -crf 26 -bf 0 -refs 1 -g 50 -keyint_min 50 \
                 -sc_threshold 0 -pix_fmt yuv420p -threads 1"
            }
            Self::H264Chroma => {
                "-c:v libx264 -preset veryfast -profile:v high422 -crf 26 -bf 0 -refs 1 -g 50 -keyint_min 50 \
                 -sc_threshold 0 -pix_fmt yuv422p -threads 1"
            }
            Self::H264B => {
                "-c:v libx264 -preset veryfast -profile:v high -crf 26 -bf 2 -b_strategy 0 -g 50 -keyint_min 50 \
                 -sc_threshold 0 -pix_fmt yuv420p -threads 1"
            }
            Self::H265 => {
                "-c:v libx265 -preset superfast -crf 28 -pix_fmt yuv420p -tag:v hvc1 -x265-params \
                 bframes=0:keyint=50:min-keyint=50:scenecut=0:pools=1:frame-threads=1:log-level=error"
            }
            Self::Mjpeg => "-c:v mjpeg -huffman default -q:v 6 -pix_fmt yuvj420p -threads 1",
        };
        let mut line = vec!["-an".to_owned(), "-vf".to_owned(), filter];
        line.extend(codec.split_whitespace().map(str::to_owned));
        if let Some(seconds) = self.seconds() {
            line.extend(["-t".to_owned(), seconds.to_owned()]);
        }
        line.extend(
            "-map_metadata -1 -fflags +bitexact -flags:v +bitexact -movflags +faststart"
                .split(' ')
                .map(str::to_owned),
        );
        line
    }
}

/// A short clip from the cache, made when it is not there. Without the footage it shows ffmpeg's test picture.
pub fn small_clip(kind: Kind) -> Result<PathBuf, ClipMakerError> {
    cached(kind)
}

/// The clip of the demo from the cache, made when it is not there.
pub fn demo_clip() -> Result<PathBuf, ClipMakerError> {
    cached(Kind::Demo)
}

/// A clip from `${XDG_CACHE_HOME:-$HOME/.cache}/vedette/clips`, made when it is not there. The name carries a hash
/// of recipe and footage, so that a changed recipe makes a new file.
pub fn cached(kind: Kind) -> Result<PathBuf, ClipMakerError> {
    let folder = cache();
    let source = if footage().is_some() { "vtest" } else { "testsrc2" };
    let out = folder.join(format!("{}-{source}-{:08x}.mp4", kind.name(), fnv1a(&kind.recipe().join(" "))));
    if !out.is_file() {
        make(kind, &out)?;
    }
    Ok(out)
}

pub(crate) fn cache() -> PathBuf {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    base.or_else(home).unwrap_or_else(std::env::temp_dir).join("vedette/clips")
}

/// Makes a clip at `out`, complete or not at all; replaces what is there.
pub fn make(kind: Kind, out: &Path) -> Result<(), ClipMakerError> {
    let io = |source| ClipMakerError::Io { what: out.display().to_string(), source };
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(io)?;
    let temporary =
        tempfile::Builder::new().prefix(".clip-").suffix(".mp4").tempfile_in(folder).map_err(io)?;
    let unpacked;
    let input: Vec<String> = match footage() {
        Some(Footage::Plain(path)) => vec!["-i".into(), path.display().to_string()],
        Some(Footage::Gzip(path)) => {
            unpacked = unpack(&path, folder)?;
            vec!["-i".into(), unpacked.path().display().to_string()]
        }
        None if kind.needs_footage() => return Err(ClipMakerError::NoFootage),
        None => ["-f", "lavfi", "-i", "testsrc2=size=768x576:rate=10"].map(str::to_owned).into(),
    };
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-nostdin", "-y", "-v", "error"]).stdin(Stdio::null());
    if kind.needs_footage() {
        // Half a minute on two idle cores: progress on stderr.
        let _ = writeln!(std::io::stderr(), "making {} (once)", out.display());
        if std::io::stderr().is_terminal() {
            ffmpeg.arg("-stats");
        }
    }
    let status = ffmpeg
        .args(input)
        .args(kind.recipe())
        .arg(temporary.path())
        .status()
        .map_err(|source| ClipMakerError::Io { what: "ffmpeg".into(), source })?;
    if !status.success() {
        return Err(ClipMakerError::Failed { program: "ffmpeg", out: out.to_owned(), status });
    }
    temporary.persist(out).map_err(|e| io(e.error))?;
    Ok(())
}

/// The footage itself, as `vtest.avi` in `folder`.
pub fn footage_in(folder: &Path) -> Result<PathBuf, ClipMakerError> {
    let out = folder.join("vtest.avi");
    let io = |source| ClipMakerError::Io { what: out.display().to_string(), source };
    match footage().ok_or(ClipMakerError::NoFootage)? {
        Footage::Plain(path) => std::os::unix::fs::symlink(path, &out).map_err(io)?,
        Footage::Gzip(path) => {
            unpack(&path, folder)?.persist(&out).map_err(|e| io(e.error))?;
        }
    }
    Ok(out)
}

enum Footage {
    Plain(PathBuf),
    Gzip(PathBuf),
}

fn footage() -> Option<Footage> {
    let (plain, gzip) = (PathBuf::from(FOOTAGE), PathBuf::from(format!("{FOOTAGE}.gz")));
    if plain.is_file() { Some(Footage::Plain(plain)) } else { gzip.is_file().then_some(Footage::Gzip(gzip)) }
}

/// The footage, unpacked for as long as the result lives.
fn unpack(path: &Path, folder: &Path) -> Result<tempfile::NamedTempFile, ClipMakerError> {
    let io = |source| ClipMakerError::Io { what: path.display().to_string(), source };
    let out = tempfile::Builder::new().prefix(".footage-").suffix(".avi").tempfile_in(folder).map_err(io)?;
    let handle = out.reopen().map_err(io)?;
    let status = Command::new("gzip").arg("-dc").arg(path).stdout(handle).status().map_err(io)?;
    if !status.success() {
        return Err(ClipMakerError::Failed { program: "gzip", out: out.path().to_owned(), status });
    }
    Ok(out)
}

/// FNV-1a, 32 bits (draft-eastlake-fnv): stable between releases, unlike the standard library's hasher.
pub(crate) fn fnv1a(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_fnv1a() {
        // From the reference's test vectors.
        assert_eq!((fnv1a(""), fnv1a("a"), fnv1a("foobar")), (0x811c_9dc5, 0xe40c_292c, 0xbf9c_f968));
    }
}
