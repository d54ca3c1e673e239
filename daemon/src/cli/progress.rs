//! A progress bar on a terminal, nothing elsewhere; gone when it is dropped, so that an error has its own line.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle};

/// A bar over `length` steps, on stderr where that is a terminal; `what` names the work.
pub(super) fn bar(length: u64, what: &str) -> ProgressBar {
    let bar = styled(length, "{msg} {wide_bar} {percent:>3} %  {eta} left");
    bar.set_message(what.to_owned());
    bar
}

/// A bar over a length of time, in milliseconds; its prefix is what is left of it, as whoever counts it writes it.
pub(super) fn countdown(length: Duration, what: &str, left: String) -> ProgressBar {
    let steps = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
    styled(steps, "{msg} {wide_bar} {prefix} left").with_message(what.to_owned()).with_prefix(left)
}

fn styled(length: u64, template: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(length), target()).with_finish(ProgressFinish::AndClear);
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// A sign of life for work whose length nobody can tell, or that is as long as it is.
pub(super) fn spinner(what: &str) -> ProgressBar {
    let spinner = ProgressBar::with_draw_target(None, target())
        .with_style(ProgressStyle::default_spinner())
        .with_message(what.to_owned())
        .with_finish(ProgressFinish::AndClear);
    spinner.enable_steady_tick(Duration::from_millis(120));
    spinner
}

fn target() -> ProgressDrawTarget {
    if std::io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() }
}
