//! Exit codes, and the one way in which a verb fails.

use std::fmt;
use std::process::ExitCode;

use crate::config::Diagnostics;

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// It did not work.
    Failed = 1,
    /// Wrong arguments.
    Usage = 2,
    /// A library, device or service that it needs is missing (EX_UNAVAILABLE).
    Unavailable = 69,
    /// The configuration is wrong (EX_CONFIG); the service manager does not restart after it.
    Config = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a verb failed: the text for people and the exit code for scripts.
#[derive(Debug)]
pub struct Failure {
    /// How the program ends.
    pub exit: Exit,
    /// What went wrong, where, and the remedy.
    pub message: String,
}

impl Failure {
    /// A failure with this exit code.
    pub fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Self { exit, message: message.to_string() }
    }

    /// Exit 1.
    pub fn failed(message: impl fmt::Display) -> Self {
        Self::new(Exit::Failed, message)
    }

    /// Exit 2.
    pub fn usage(message: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// Exit 69.
    pub fn unavailable(message: impl fmt::Display) -> Self {
        Self::new(Exit::Unavailable, message)
    }

    /// Exit 78.
    pub fn config(message: impl fmt::Display) -> Self {
        Self::new(Exit::Config, message)
    }
}

/// A refused configuration: how much is wrong, then each thing on lines of its own, so that editors find
/// `file:line:col` at their beginning.
impl From<Diagnostics> for Failure {
    fn from(wrong: Diagnostics) -> Self {
        Self::config(format!("the configuration is refused: {}\n{wrong}", wrong.summary()))
    }
}

/// What a verb returns.
pub type Outcome = Result<(), Failure>;
