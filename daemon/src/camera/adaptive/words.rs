//! What a camera's gate is, in words: for its status, the log and a replay.

use vedette_analysis::gate::{Hold, SizesVerdict};

use super::{Adaptive, Standing};

impl Adaptive {
    /// How this camera is seen to move while it is quiet, or why it never is, with what to change in the camera.
    pub(crate) fn gate(&self) -> String {
        let gop = self.gop.longest(self.cursor.head()).unwrap_or_default().as_secs_f64();
        let useful = self.sizes.verdict() == SizesVerdict::Useful;
        let so_far = self.so_far();
        match self.attention.hold() {
            Some(Hold::Mode) => "off: mode is always".to_owned(),
            Some(Hold::Learning) => "learning what this camera's noise looks like".to_owned(),
            Some(Hold::Blind) => format!(
                "none: keyframes are {gop:.1} s apart and packet sizes do not tell motion{so_far}; {}",
                self.blind()
            ),
            Some(Hold::Rules) => format!(
                "held in watch: a rule needs what may happen between two keyframes, and packet sizes do not tell \
                 motion{so_far}; set variable bit rate in the camera, or mode = \"force\"",
            ),
            None if useful => format!(
                "packet sizes ({:.0} % of the packets of motion are large) and keyframes every {gop:.1} s",
                100.0 * self.sizes.caught()
            ),
            None if self.attention.needs_beside() => format!(
                "pictures of gate_url, about one a second, and keyframes every {gop:.1} s; packet sizes do not tell \
                 motion{so_far}: what begins and ends between two of these pictures is missed"
            ),
            None => format!(
                "keyframes every {gop:.1} s; packet sizes do not tell motion{so_far}: what begins and ends between two \
                 keyframes is missed"
            ),
        }
    }

    /// What becomes of a camera that is blind by itself.
    fn blind(&self) -> String {
        const CAMERA: &str = "set a keyframe every 1 to 2 s, or variable bit rate, in the camera";
        match &self.beside {
            None => format!("{CAMERA}, or give a small stream of it as gate_url"),
            Some(_) if !self.attention.needs_beside() => {
                format!(
                    "{CAMERA} (gate_url is left out: a rule needs what may happen between two of its pictures)"
                )
            }
            Some(Standing::Failed(why)) => format!("gate_url: {why}"),
            Some(_) => "learning what the noise of gate_url looks like".to_owned(),
        }
    }

    fn so_far(&self) -> &'static str {
        if self.sizes.verdict() == SizesVerdict::Learning { " yet" } else { "" }
    }
}
