//! What is said of a camera's clock: each change once in the log, what is wrong for as long as it is on the status.
//!
//! Owns: the sentences. Does not know: how clocks are compared.

use vedette_core::CameraId;
use vedette_ingest::{ClockNews, TimeLine};

/// Logs what is new.
pub(super) fn tell(camera: &CameraId, line: &mut TimeLine) {
    let id = camera.as_str();
    while let Some(news) = line.clock_news() {
        match news {
            ClockNews::Trusted(ahead) => {
                log::info!(camera = id; "times are the camera's (RTCP), {ahead:+.2} s from this host's");
            }
            ClockNews::Refused(ahead) => log::warn!(
                camera = id;
                "{}: times are those of arrival; set the camera's clock by NTP, or this host's",
                off(ahead)
            ),
            ClockNews::Stepped(by) => log::warn!(camera = id; "the camera's clock stepped by {by:+.1} s"),
            ClockNews::HostStepped(by) => log::warn!(camera = id; "this host's clock stepped by {by:+.1} s"),
        }
    }
}

/// Why the times are not the camera's though it tells some.
pub(super) fn trouble(line: &TimeLine) -> Option<String> {
    let ahead = line.clock().offset.filter(|_| line.clock_is_refused())?;
    Some(format!("clock: {}; set it by NTP, until then times are those of arrival", off(ahead)))
}

fn off(ahead: f64) -> String {
    let side = if ahead < 0.0 { "behind" } else { "ahead of" };
    format!("the camera's clock is {:.0} s {side} this host's", ahead.abs())
}
