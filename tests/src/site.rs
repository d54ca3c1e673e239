//! A whole node in this process, built from a configuration text, with the verbs that tests need.
//!
//! Owns: the node, its state directory, the once-a-second tick that `vedette run` gives it, and waiting. Does not
//! know: what cameras and brokers do; tests hold those themselves.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use vedette::camera::{CameraState, RunningCamera};
use vedette::config;
use vedette::node::{Host, Node, runtime_folders};
use vedette::share::Share;
use vedette_core::{Clock, Mono, Secret, Shutdown, SystemClock};

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(20);
/// As `vedette run` ticks its node.
const TICK: Duration = Duration::from_secs(1);
/// A stop takes no longer, however busy the machine is.
const STOP: Duration = Duration::from_secs(20);

/// Whether a node can be built here; where none can, that is said as a skip. What [`crate::need_detector`] asks.
///
/// # Panics
/// Where it cannot and this is a soak: one that ran nothing has shown nothing.
pub fn has_detector() -> bool {
    if vedette_models::Runtime::load(None, &runtime_folders()).is_ok() {
        return true;
    }
    let reason = "no ONNX Runtime";
    assert!(std::env::var_os("VEDETTE_SOAK_SECONDS").is_none(), "{reason}");
    crate::skipped(reason);
    false
}

/// Ends a test where nothing can be detected, which a node needs, and says so as a skip.
#[macro_export]
macro_rules! need_detector {
    () => {
        if !$crate::site::has_detector() {
            return;
        }
    };
}

/// What a node is made of. Logins stand beside the text, as they do in the product.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// As in `vedette.toml`.
    pub text: String,
    /// Camera, user, password.
    pub cameras: Vec<(String, String, Secret)>,
    /// Broker, user, password.
    pub brokers: Vec<(String, String, Secret)>,
}

impl Plan {
    /// Without logins.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    /// With a login for one camera more.
    #[must_use]
    pub fn camera_login(mut self, camera: &str, user: &str, password: &str) -> Self {
        self.cameras.push((camera.to_owned(), user.to_owned(), Secret::new(password)));
        self
    }

    /// With a login for one broker more.
    #[must_use]
    pub fn broker_login(mut self, broker: &str, user: &str, password: &str) -> Self {
        self.brokers.push((broker.to_owned(), user.to_owned(), Secret::new(password)));
        self
    }

    fn config(&self) -> config::Config {
        let mut config = config::from_text("site.toml", &self.text, &config::Options::default())
            .unwrap_or_else(|wrong| panic!("{wrong}"));
        for (id, user, password) in &self.cameras {
            let camera = config.cameras.get_mut(id.as_str()).unwrap_or_else(|| panic!("no camera {id}"));
            let camera = Arc::make_mut(camera);
            (camera.user, camera.password) = (Some(user.clone()), Some(password.clone()));
        }
        for (id, user, password) in &self.brokers {
            let broker = config.brokers.get_mut(id.as_str()).unwrap_or_else(|| panic!("no broker {id}"));
            (broker.user, broker.password) = (Some(user.clone()), Some(password.clone()));
        }
        config
    }
}

/// A camera as configurations write it: the whole picture as zone `all`, the line `kerb` of the footage (its truth
/// stands in `tests/truth`), and a rule on each, `inside` and `kerb`, that keep nothing back.
pub fn camera_text(name: &str, url: &str, fps: f32) -> String {
    format!(
        r#"
[camera.{name}]
url = "{url}"
fps = {fps:.1}
[camera.{name}.zone]
all = [[0.01, 0.01], [0.99, 0.01], [0.99, 0.99], [0.01, 0.99]]
[camera.{name}.line]
kerb = [[0.875, 0.385], [0.560, 0.774]]
[camera.{name}.rule.inside]
kind = "intrusion"
zone = "all"
classes = ["person"]
cooldown = "1s"
max_per_hour = 1000
[camera.{name}.rule.kerb]
kind = "line_crossing"
line = "kerb"
classes = ["person"]
severity = "info"
max_per_hour = 1000
"#
    )
}

/// A running node. Dropped, it stops as `vedette run` does, whether or not the test got to its end.
pub struct Site {
    /// Absent once stopped.
    node: Option<Node>,
    clock: Arc<dyn Clock>,
    ticked: Mono,
    state: TempDir,
}

impl Site {
    /// Builds and starts it, with a fresh state directory; an embedded broker takes any free port.
    pub fn start(plan: &Plan) -> Self {
        // As the program does first of all.
        vedette::process_env::bound_arenas();
        let state = tempfile::tempdir().expect("a temporary folder should be there");
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
        let share = Share::find(Some(&root), None, None).unwrap_or_else(|e| panic!("{e}"));
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let host =
            Host { share, state: state.path().to_owned(), clock: Arc::clone(&clock), embedded_port: 0 };
        let node = Node::build(plan.config(), host).unwrap_or_else(|e| panic!("{e}"));
        Self { node: Some(node), ticked: clock.now(), clock, state }
    }

    /// The clock that the node has.
    pub fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    /// Where it keeps its state.
    pub fn state_folder(&self) -> &Path {
        self.state.path()
    }

    fn node(&self) -> &Node {
        self.node.as_ref().expect("it should not be stopped yet")
    }

    /// The port of the embedded broker.
    pub fn embedded_port(&self) -> u16 {
        self.node().embedded_port().expect("the configuration should name the embedded broker")
    }

    /// One camera.
    pub fn camera(&self, name: &str) -> &RunningCamera {
        let camera = self.node().cameras().iter().find(|c| c.config().id.as_str() == name);
        camera.unwrap_or_else(|| panic!("no camera {name}"))
    }

    /// All cameras by name.
    pub fn cameras(&self) -> Vec<String> {
        self.node().cameras().iter().map(|c| c.config().id.as_str().to_owned()).collect()
    }

    /// Frames of a camera that a model has looked at.
    pub fn analysed(&self, name: &str) -> u64 {
        self.camera(name).counters().analysed.get()
    }

    /// The state of a camera.
    pub fn state(&self, name: &str) -> CameraState {
        self.camera(name).snapshot().state
    }

    /// Frames that a camera has decoded.
    pub fn decoded(&self, name: &str) -> u64 {
        self.camera(name).counters().decoded.get()
    }

    /// Access units that a camera has received.
    pub fn received(&self, name: &str) -> u64 {
        self.camera(name).counters().received.get()
    }

    /// How everything is, for a test that fails.
    fn describe(&self) -> String {
        let mut text = self.node().status_line();
        for camera in self.node().cameras() {
            text += &format!("\n  {}: {:?}, {:?}", camera.config().id, camera.snapshot(), camera.counters());
        }
        text
    }

    fn tick(&mut self) {
        if self.clock.now().since(self.ticked) >= TICK {
            self.ticked = self.clock.now();
            if let Some(node) = &mut self.node {
                node.tick();
            }
        }
    }

    /// Waits until `done` says yes; how long that took. Fails the test after `within`.
    pub fn wait_until(&mut self, what: &str, within: Duration, done: impl Fn(&Self) -> bool) -> Duration {
        let (began, patience) = (self.clock.now(), Shutdown::new());
        loop {
            self.tick();
            let passed = self.clock.now().since(began);
            if done(self) {
                return passed;
            }
            assert!(passed < within, "{what}: not within {within:?}: {}", self.describe());
            self.clock.pause(POLL, &patience);
        }
    }

    /// Waits until all of these cameras are live.
    pub fn wait_live(&mut self, cameras: &[&str], within: Duration) -> Duration {
        let live = |site: &Self| cameras.iter().all(|c| site.state(c) == CameraState::Live);
        self.wait_until(&format!("{} live", cameras.join(" and ")), within, live)
    }

    /// Waits until a camera has decoded `count` frames more and is live; how long that took.
    pub fn wait_frames(&mut self, camera: &str, count: u64, within: Duration) -> Duration {
        let wanted = self.decoded(camera) + count;
        self.wait_until(&format!("{count} frames of {camera}"), within, |site| {
            site.decoded(camera) >= wanted && site.state(camera) == CameraState::Live
        })
    }

    /// Lets time pass where its passing is what a test is about.
    pub fn pause(&mut self, length: Duration) {
        let (end, patience) = (self.clock.now() + length, Shutdown::new());
        while self.clock.now() < end {
            self.tick();
            self.clock.pause(POLL, &patience);
        }
    }

    /// Stops it as `vedette run` does; whether all of it ended in time.
    pub fn stop(mut self) -> bool {
        self.node.take().is_some_and(|node| node.stop(STOP))
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(node) = self.node.take() {
            node.stop(STOP);
        }
    }
}
