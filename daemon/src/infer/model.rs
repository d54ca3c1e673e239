//! What a session runs: the seam between the queue and the networks, one implementation a role.
//!
//! Owns: the trait. Does not know: queues, cameras, threads.

use std::time::Duration;

use vedette_core::{AnswerValue, Frame, Role, View};
use vedette_models::{Classifier, Detector, FeatureExtractor, PoseEstimator};

/// How many requests a session takes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// At most so many, at least 1.
    pub max: usize,
    /// How long the oldest waits at most for others to join it.
    pub wait: Duration,
}

impl Batch {
    /// One at a time, at once: on a CPU a batch gains nothing and makes all of it as late as its last.
    pub const ONE: Self = Self { max: 1, wait: Duration::ZERO };
}

/// One picture to look at, or a part of it.
pub type Request<'a> = (&'a Frame, View);

/// A network with its session.
pub trait Model: Send {
    /// What it is used for.
    fn role(&self) -> Role;

    /// As in its manifest.
    fn name(&self) -> &str;

    /// [`Batch::ONE`] unless its provider is a GPU and its file has a free batch dimension.
    fn batch(&self) -> Batch {
        Batch::ONE
    }

    /// One answer for each request, in their order; or why there is none, as one line.
    fn run(&mut self, requests: &[Request<'_>]) -> Vec<Result<AnswerValue, String>>;
}

/// Its files have a batch of 1 on every provider.
impl Model for Detector {
    fn role(&self) -> Role {
        Role::Detector
    }

    fn name(&self) -> &str {
        Detector::name(self)
    }

    fn run(&mut self, requests: &[Request<'_>]) -> Vec<Result<AnswerValue, String>> {
        let look = |(frame, view): &Request<'_>| {
            self.detect(frame, *view).map(AnswerValue::Detections).map_err(|error| error.to_string())
        };
        requests.iter().map(look).collect()
    }
}

/// x, y (0..1 of the picture) and score of each key point, in the order of the manifest's labels.
impl Model for PoseEstimator {
    fn role(&self) -> Role {
        Role::Pose
    }

    fn name(&self) -> &str {
        PoseEstimator::name(self)
    }

    fn run(&mut self, requests: &[Request<'_>]) -> Vec<Result<AnswerValue, String>> {
        let look = |(frame, view): &Request<'_>| {
            let points = self.look(frame, *view).map_err(|error| error.to_string())?;
            Ok(AnswerValue::Vector(points.iter().flat_map(|point| [point.x, point.y, point.score]).collect()))
        };
        requests.iter().map(look).collect()
    }
}

/// The score of each label, in the order of the manifest.
impl Model for Classifier {
    fn role(&self) -> Role {
        Role::Classifier
    }

    fn name(&self) -> &str {
        Classifier::name(self)
    }

    fn run(&mut self, requests: &[Request<'_>]) -> Vec<Result<AnswerValue, String>> {
        let look = |(frame, view): &Request<'_>| {
            self.classify(frame, *view).map(AnswerValue::Vector).map_err(|error| error.to_string())
        };
        requests.iter().map(look).collect()
    }
}

/// All maps, one after the other, each channel by channel.
impl Model for FeatureExtractor {
    fn role(&self) -> Role {
        Role::Features
    }

    fn name(&self) -> &str {
        FeatureExtractor::name(self)
    }

    fn run(&mut self, requests: &[Request<'_>]) -> Vec<Result<AnswerValue, String>> {
        let look = |(frame, view): &Request<'_>| {
            let (maps, _) = self.extract(frame, *view).map_err(|error| error.to_string())?;
            Ok(AnswerValue::Vector(maps.into_iter().flat_map(|map| map.data).collect()))
        };
        requests.iter().map(look).collect()
    }
}
