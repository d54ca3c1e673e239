//! `vedette discover`: the ONVIF cameras on the network.

use std::time::Duration;

use clap::Args;
use vedette_core::SystemClock;

use super::{Global, progress, say, say_json};
use crate::discover::{Found, Whom, discover};
use crate::exit::{Failure, Outcome};

#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// How long answers are waited for
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// Network interface to ask on, such as eth1; may be given more than once [default: every one that is up]
    #[arg(long, value_name = "NAME", conflicts_with = "address")]
    interface: Vec<String>,
    /// Ask this host instead of everybody: for another subnet; may be given more than once
    #[arg(long, value_name = "HOST[:PORT]")]
    address: Vec<String>,
}

/// What is printed for scripts.
#[derive(serde::Serialize)]
struct List<'a> {
    cameras: &'a [Found],
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> Outcome {
    let whom = match arguments.address.as_slice() {
        [] => Whom::Interfaces(arguments.interface.clone()),
        hosts => Whom::Hosts(hosts.to_vec()),
    };
    let spinner = progress::spinner("asking for cameras");
    let found = discover(&whom, Duration::from_secs(arguments.seconds), &SystemClock::new());
    drop(spinner);
    let cameras = found.map_err(Failure::failed)?;
    if global.json {
        say_json(&List { cameras: &cameras })?;
    } else {
        print(&cameras)?;
    }
    if cameras.is_empty() { Err(Failure::failed(nobody(&whom, arguments.seconds))) } else { Ok(()) }
}

fn nobody(whom: &Whom, seconds: u64) -> String {
    let remedy = match whom {
        Whom::Hosts(_) => {
            "switch ONVIF or WS-Discovery on in the camera, and let UDP port 3702 pass both ways"
        }
        Whom::Interfaces(_) => {
            "switch ONVIF or WS-Discovery on in the cameras; a firewall here must let UDP from port 3702 in; cameras \
             behind a router are asked by --address HOST"
        }
    };
    format!("no camera answered within {seconds} s: {remedy}")
}

/// A table as wide as its words, and what to do next.
fn print(cameras: &[Found]) -> Outcome {
    let Some(first) = cameras.first() else { return Ok(()) };
    let none = || "-".to_owned();
    let rows: Vec<[String; 5]> = cameras
        .iter()
        .map(|camera| {
            [
                camera.address.to_string(),
                camera.name.clone().unwrap_or_else(none),
                camera.hardware.clone().unwrap_or_else(none),
                camera.location.clone().unwrap_or_else(none),
                if camera.xaddrs.is_empty() { none() } else { camera.xaddrs.join(" ") },
            ]
        })
        .collect();
    let head = ["address", "name", "hardware", "location", "ONVIF service"].map(str::to_owned);
    let width = |column: usize| {
        rows.iter().chain([&head]).map(|row| row[column].chars().count()).max().unwrap_or_default()
    };
    let widths = [0, 1, 2, 3].map(width);
    for row in [&head].into_iter().chain(&rows) {
        let [w0, w1, w2, w3] = widths;
        say(format!("{:<w0$}  {:<w1$}  {:<w2$}  {:<w3$}  {}", row[0], row[1], row[2], row[3], row[4]))?;
    }
    let host = match first.address {
        std::net::IpAddr::V6(address) => format!("[{address}]"),
        address @ std::net::IpAddr::V4(_) => address.to_string(),
    };
    let count = if cameras.len() == 1 { "1 camera".to_owned() } else { format!("{} cameras", cameras.len()) };
    say(format!(
        "{count}; next: vedette probe --user NAME rtsp://{host}/PATH (the camera's manual or its web page tells PATH)"
    ))
}
