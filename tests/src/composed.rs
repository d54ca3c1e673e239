//! Clips in which nothing moves, then people do, then nothing again: what a camera's gate has to find out. Made once
//! with ffmpeg, in the cache of the other clips.
//!
//! Owns: the recipes. Does not know: who plays them. A still is the per-pixel median of the footage with the noise of a
//! sensor on it; every stream is H.264 with a keyframe every 2 s and, but for one, without B-frames, as cameras send it.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::clips::{ClipMakerError, cache, fnv1a, footage_in};

/// How bits are shared out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    /// Constant quality.
    Variable,
    /// 1 Mbit/s, filled up where nothing happens.
    Constant,
}

impl Rate {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Variable, Self::Constant];

    /// As in tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Variable => "VBR",
            Self::Constant => "CBR",
        }
    }

    fn options(self, fps: u32) -> String {
        let rate = match self {
            Self::Variable => "-crf 26".to_owned(),
            Self::Constant => {
                "-b:v 1M -minrate 1M -maxrate 1M -bufsize 1M -x264-params nal-hrd=cbr:force-cfr=1".to_owned()
            }
        };
        let gop = 2 * fps;
        format!(
            "-c:v libx264 -preset veryfast -profile:v high {rate} -bf 0 -refs 1 -g {gop} -keyint_min {gop} -sc_threshold 0 \
             -pix_fmt yuv420p -threads 1 -an -map_metadata -1 -fflags +bitexact -flags:v +bitexact"
        )
    }
}

/// Seconds of stillness before each piece and after the last.
pub const STILL: u32 = 20;
/// Where in the footage the pieces are taken, seconds.
const PIECES: [u32; 4] = [0, 20, 40, 60];
/// Seconds of each piece.
const PIECE: u32 = 6;
/// Frames a second of the footage.
const FPS: u32 = 10;
/// Small figures that cross the still picture in one second: when, seconds; at different places in the GOP.
pub const CROSSINGS: [f64; 5] = [60.5, 80.8, 101.1, 121.4, 141.7];

/// When each piece of [`pieces`] begins and ends, seconds.
pub fn spans() -> Vec<(f64, f64)> {
    let begin = |n: usize| f64::from(STILL) + n as f64 * f64::from(STILL + PIECE);
    (0..PIECES.len()).map(|n| (begin(n), begin(n) + f64::from(PIECE))).collect()
}

/// Stillness, six seconds of people, stillness, …: four pieces of the footage, 768x576 at 10 fps.
///
/// # Errors
/// The footage or ffmpeg is not there.
pub fn pieces(rate: Rate) -> Result<PathBuf, ClipMakerError> {
    let mut inputs = Vec::new();
    let mut chain = String::new();
    let mut order = String::new();
    for (n, begin) in PIECES.iter().enumerate() {
        inputs.extend(still(STILL));
        inputs.extend(["-ss".into(), begin.to_string(), "-t".into(), PIECE.to_string()]);
        inputs.extend(["-i".into(), "vtest.avi".into()]);
        chain += &format!("[{}:v]{}[s{n}];", 2 * n, noise(n));
        chain += &format!("[{}:v]fps={FPS},format=yuv420p,setsar=1[c{n}];", 2 * n + 1);
        order += &format!("[s{n}][c{n}]");
    }
    inputs.extend(still(STILL));
    chain += &format!("[{}:v]{}[end];", 2 * PIECES.len(), noise(99));
    let filter = format!("{chain}{order}[end]concat=n={}:v=1:a=0,fps={FPS}[out]", 2 * PIECES.len() + 1);
    made(&format!("pieces-{}", rate.as_str().to_lowercase()), &inputs, &filter, &rate.options(FPS))
}

/// Stillness in which a person of 24x54 pixels crosses a third of the picture within a second, five times. Before, people
/// teach the gate what motion is: one piece of the footage, at 20 s.
///
/// # Errors
/// As of [`pieces`].
pub fn crossings(rate: Rate) -> Result<PathBuf, ClipMakerError> {
    let mut inputs: Vec<String> = still(160).to_vec();
    inputs.extend(["-ss", "10", "-t", "6", "-i", "vtest.avi"].map(str::to_owned));
    inputs.extend(["-loop", "1", "-framerate", "10", "-t", "160", "-i", "person.png"].map(str::to_owned));
    let within = CROSSINGS.map(|at| format!("between(t,{at},{})", at + 1.0)).join("+");
    let x = CROSSINGS.map(|at| format!("between(t,{at},{})*(250+250*(t-{at}))", at + 1.0)).join("+");
    let filter = format!(
        "[0:v]{}[still];[1:v]fps={FPS},format=yuv420p,setsar=1,setpts=PTS+{STILL}/TB[people];[2:v]scale=24:54,format=yuv420p\
         [person];[still][person]overlay=x='{x}':y=225:enable='{within}'[walk];[walk][people]overlay=eof_action=pass:\
         enable='between(t,{STILL},{})',fps={FPS}[out]",
        noise(0),
        STILL + PIECE
    );
    made(&format!("crossings-{}", rate.as_str().to_lowercase()), &inputs, &filter, &rate.options(FPS))
}

/// For a live camera: 640x360 at 25 fps, 36 s of stillness with 5 s of people in its middle; it is played over and
/// over, and larger packets of an encoder that begins stand at the seam.
///
/// # Errors
/// As of [`pieces`].
pub fn yard(rate: Rate) -> Result<PathBuf, ClipMakerError> {
    let name = format!("yard-{}", rate.as_str().to_lowercase());
    yard_of(&name, YARD, &rate.options(LIVE_FPS))
}

/// The same at a constant bit rate with a keyframe every 7 s, none of which shows anybody; and as a small stream of
/// 320x180 with one every second.
///
/// # Errors
/// As of [`pieces`].
pub fn yard_of_two_streams() -> Result<[PathBuf; 2], ClipMakerError> {
    let gop = |rate: Rate, seconds: u32| {
        let two = 2 * LIVE_FPS;
        let gop = seconds * LIVE_FPS;
        rate.options(LIVE_FPS)
            .replace(&format!("-g {two} -keyint_min {two}"), &format!("-g {gop} -keyint_min {gop}"))
    };
    let large = yard_of("yard-long-gop", YARD, &gop(Rate::Constant, 7))?;
    Ok([large, yard_of("yard-small", "320:180", &gop(Rate::Variable, 1))?])
}

/// The same with two B-frames between others, which cameras send that are set to compress more.
///
/// # Errors
/// As of [`pieces`].
pub fn yard_with_b_frames() -> Result<PathBuf, ClipMakerError> {
    yard_of("yard-b", YARD, &Rate::Variable.options(LIVE_FPS).replace("-bf 0", "-bf 2 -b_strategy 0"))
}

fn yard_of(name: &str, size: &str, options: &str) -> Result<PathBuf, ClipMakerError> {
    let mut inputs: Vec<String> = still(16).to_vec();
    inputs.extend(["-ss", "10", "-t", "5", "-i", "vtest.avi"].map(str::to_owned));
    inputs.extend(still(20));
    let size = format!("scale={size},setsar=1,fps=25");
    let filter = format!(
        "[0:v]{size},{}[a];[1:v]framerate=fps=25:scene=100,{size},format=yuv420p[b];[2:v]{size},{}[c];\
         [a][b][c]concat=n=3:v=1:a=0,fps=25[out]",
        noise(0),
        noise(1)
    );
    made(name, &inputs, &filter, options)
}

/// Pixels of a [`yard`].
const YARD: &str = "640:360";

/// When people appear in [`appearances`], seconds: at five places in the GOP.
pub const APPEARANCES: [f64; 5] = [8.2, 18.6, 29.0, 39.4, 49.8];
/// Seconds that they are to be seen each time.
const APPEARANCE: f64 = 2.0;
/// Frames a second of [`yard`] and [`appearances`].
const LIVE_FPS: u32 = 25;

/// The place of the frame of [`appearances`] that first shows people, each time, in the clip.
pub fn first_frames() -> [usize; 5] {
    APPEARANCES.map(|at| (at * f64::from(LIVE_FPS)).round() as usize)
}

/// For a live camera that is asked how soon it tells: 640x360 at 25 fps, a minute of stillness in which people appear
/// five times, from one frame to the next.
///
/// # Errors
/// As of [`pieces`].
pub fn appearances(rate: Rate) -> Result<PathBuf, ClipMakerError> {
    let size = format!("scale=640:360,setsar=1,fps={LIVE_FPS}");
    let (mut inputs, mut chain, mut order) = (Vec::new(), String::new(), String::new());
    let mut ended = 0.0;
    for (n, at) in APPEARANCES.into_iter().enumerate() {
        inputs.extend(still(format!("{:.1}", at - ended)));
        // Some frames more: what blends them to the higher rate keeps back the last.
        let length = (APPEARANCE + 0.5).to_string();
        inputs.extend(["-ss", "10", "-t", &length, "-i", "vtest.avi"].map(str::to_owned));
        chain += &format!("[{}:v]{size},{}[s{n}];", 2 * n, noise(n));
        chain += &format!(
            "[{}:v]framerate=fps={LIVE_FPS}:scene=100,{size},format=yuv420p,trim=end_frame={}[p{n}];",
            2 * n + 1,
            (APPEARANCE * f64::from(LIVE_FPS)) as u32
        );
        order += &format!("[s{n}][p{n}]");
        ended = at + APPEARANCE;
    }
    inputs.extend(still(format!("{:.1}", 60.0 - ended)));
    let last = 2 * APPEARANCES.len();
    chain += &format!("[{last}:v]{size},{}[end];", noise(99));
    let filter = format!("{chain}{order}[end]concat=n={}:v=1:a=0,fps={LIVE_FPS}[out]", last + 1);
    made(&format!("appearances-{}", rate.as_str().to_lowercase()), &inputs, &filter, &rate.options(LIVE_FPS))
}

fn still(seconds: impl Display) -> [String; 8] {
    ["-loop", "1", "-framerate", "10", "-t", &seconds.to_string(), "-i", "still.png"].map(str::to_owned)
}

/// A sensor's noise: as that of the footage, 1.5 steps of luma; another one each time.
fn noise(seed: usize) -> String {
    format!("format=yuv420p,noise=alls=3:allf=t:all_seed={},setsar=1", 1_000 + seed)
}

fn made(name: &str, inputs: &[String], filter: &str, options: &str) -> Result<PathBuf, ClipMakerError> {
    let recipe = format!("{} {filter} {options}", inputs.join(" "));
    let folder = cache();
    let out = folder.join(format!("{name}-{:08x}.mp4", fnv1a(&recipe)));
    if out.is_file() {
        return Ok(out);
    }
    let io = |source| ClipMakerError::Io { what: out.display().to_string(), source };
    std::fs::create_dir_all(&folder).map_err(io)?;
    let work = tempfile::tempdir_in(&folder).map_err(io)?;
    footage_in(work.path())?;
    prepare(work.path(), &out)?;
    let mut arguments = inputs.to_vec();
    arguments.extend(["-filter_complex".into(), filter.into(), "-map".into(), "[out]".into()]);
    arguments.extend(options.split_whitespace().map(str::to_owned));
    arguments.push("clip.mp4".into());
    ffmpeg(work.path(), &arguments, &out)?;
    std::fs::rename(work.path().join("clip.mp4"), &out).map_err(io)?;
    Ok(out)
}

/// The still picture, and a person cut out of the footage.
fn prepare(work: &Path, out: &Path) -> Result<(), ClipMakerError> {
    let median = "-i vtest.avi -vf select='not(mod(n\\,4))',tmedian=radius=99 -vsync 0 -frames:v 1 still.png";
    ffmpeg(work, &words(median), out)?;
    let person = "-ss 0.0 -i vtest.avi -vf crop=38:84:496:152 -frames:v 1 person.png";
    ffmpeg(work, &words(person), out)
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

fn ffmpeg(work: &Path, arguments: &[String], out: &Path) -> Result<(), ClipMakerError> {
    let status = Command::new("ffmpeg")
        .args(["-nostdin", "-y", "-v", "error"])
        .args(arguments)
        .current_dir(work)
        .stdin(Stdio::null())
        .status()
        .map_err(|source| ClipMakerError::Io { what: "ffmpeg".into(), source })?;
    if status.success() {
        return Ok(());
    }
    Err(ClipMakerError::Failed { program: "ffmpeg", out: out.to_owned(), status })
}
