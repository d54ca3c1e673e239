//! `testcam`: an RTSP camera with faults, on loopback. Prints one line of JSON when it listens, takes commands
//! on its control port (`vedette_tests::testcam::Command`), and ends when its stdin closes.
#![forbid(unsafe_code)]

use std::error::Error;
use std::io::{Read, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use vedette_core::{Clock, Secret, SystemClock};
use vedette_tests::clips;
use vedette_tests::testcam::{Auth, Camera, Clip, Login, Settings, Stream};

/// An RTSP camera with faults, on 127.0.0.1.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct Arguments {
    /// What to play, for ever: H.264, H.265 or MJPEG
    #[arg(long, required = true)]
    clip: Option<PathBuf>,
    /// RTSP port; 0 takes a free one
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Where the clip is found
    #[arg(long, default_value = "/main")]
    path: String,
    /// Copies of the main stream: PATH, PATH-2, PATH-3, …
    #[arg(long, default_value_t = 1)]
    count: usize,
    /// The clip the command `size` turns the main stream to: same codec, another resolution
    #[arg(long)]
    other: Option<PathBuf>,
    /// A second stream
    #[arg(long)]
    sub: Option<PathBuf>,
    /// Where the second stream is found
    #[arg(long, default_value = "/sub")]
    sub_path: String,
    /// Refuse RTP over TCP (461)
    #[arg(long)]
    udp_only: bool,
    /// The encoding that the SDP names, whatever is sent: H265, VP8, …
    #[arg(long, value_name = "ENCODING")]
    announce: Option<String>,
    /// Login scheme
    #[arg(long, value_enum, default_value_t = Scheme::None)]
    auth: Scheme,
    /// User name (with --auth)
    #[arg(long)]
    user: Option<String>,
    /// The environment variable that holds the password (with --auth)
    #[arg(long)]
    password_env: Option<String>,
    /// Serve rtsps with this certificate and key (one PEM file)
    #[arg(long)]
    tls: Option<PathBuf>,
    /// Control port; 0 takes a free one
    #[arg(long, default_value_t = 0)]
    control: u16,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Scheme {
    None,
    Basic,
    Digest,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Make a clip and print its path
    #[command(hide = true)]
    Clip {
        #[arg(value_enum)]
        kind: clips::Kind,
        /// Where to; absent: in the cache folder
        out: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "testcam: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    if let Some(Verb::Clip { kind, out }) = &arguments.verb {
        let path = match out {
            Some(out) => clips::make(*kind, out).map(|()| out.clone())?,
            None => clips::cached(*kind)?,
        };
        writeln!(std::io::stdout(), "{}", path.display())?;
        return Ok(());
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    gstreamer::init()?;
    let camera = Camera::start(settings(arguments)?, &clock)?;
    end_with_stdin()?;
    let ready = serde_json::json!({
        "rtsp_port": camera.rtsp_port,
        "control_port": camera.control_port,
        "url": camera.urls.first(),
        "urls": camera.urls,
    });
    writeln!(std::io::stdout(), "{ready}")?;
    camera.run();
    Ok(())
}

fn settings(arguments: Arguments) -> Result<Settings, Box<dyn Error>> {
    let load = |path: &PathBuf| Clip::load(path).map(Arc::new);
    let clip = load(arguments.clip.as_ref().ok_or("--clip is missing")?)?;
    let other = arguments.other.as_ref().map(load).transpose()?;
    let main = &arguments.path;
    let stream = |path: String, clip: Arc<Clip>, other: Option<Arc<Clip>>| Stream {
        path,
        clip,
        other,
        udp_only: arguments.udp_only,
        announce: arguments.announce.clone(),
    };
    let mut streams: Vec<Stream> = (1..=arguments.count.max(1))
        .map(|n| if n == 1 { main.clone() } else { format!("{main}-{n}") })
        .map(|path| stream(path, clip.clone(), other.clone()))
        .collect();
    if let Some(sub) = &arguments.sub {
        streams.push(stream(arguments.sub_path.clone(), load(sub)?, None));
    }
    if let Some(stream) = streams.iter().find(|stream| !stream.path.starts_with('/')) {
        return Err(format!("path `{}` must begin with `/`", stream.path).into());
    }
    Ok(Settings {
        port: arguments.port,
        control: arguments.control,
        login: login(&arguments)?,
        tls: arguments.tls,
        streams,
    })
}

fn login(arguments: &Arguments) -> Result<Option<Login>, Box<dyn Error>> {
    let auth = match arguments.auth {
        Scheme::None if arguments.user.is_some() => return Err("--user wants --auth basic or digest".into()),
        Scheme::None => return Ok(None),
        Scheme::Basic => Auth::Basic,
        Scheme::Digest => Auth::Digest,
    };
    let user = arguments.user.clone().ok_or("--auth wants --user")?;
    let variable = arguments.password_env.as_ref().ok_or("--auth wants --password-env")?;
    let password =
        std::env::var(variable).map_err(|_| format!("environment variable {variable} is not set"))?;
    Ok(Some(Login { user, password: Secret::new(password), auth }))
}

/// Ends the process when a pipe at stdin closes, so that a child dies with its parent. A terminal or `/dev/null`
/// at stdin means that nobody holds it.
fn end_with_stdin() -> Result<(), Box<dyn Error>> {
    let piped = std::fs::metadata("/proc/self/fd/0").is_ok_and(|stdin| stdin.file_type().is_fifo());
    if piped {
        std::thread::Builder::new().name("stdin".into()).spawn(|| {
            let mut chunk = [0; 64];
            while std::io::stdin().read(&mut chunk).is_ok_and(|n| n > 0) {}
            std::process::exit(0);
        })?;
    }
    Ok(())
}
