//! Who asked for what: takes wants from rules to whoever runs models, and answers back to the rule that asked.
//!
//! Owns: ids of wants and those that are out. Does not know: what rules do with answers, who runs the models.

use std::collections::BTreeMap;

use vedette_core::{Answer, AnswerValue, Pts, Role, View, Want, WantId};

/// More than so many are not out at once for one camera.
const MAX_OUT: usize = 64;

/// The wants of one scene.
#[derive(Debug, Default)]
pub(crate) struct Wants {
    last_id: u64,
    /// Rule (its place in the scene) and deadline of each want that has no answer yet.
    out: BTreeMap<WantId, (usize, Pts)>,
    asked: Vec<Want>,
}

impl Wants {
    pub(crate) fn ask(&mut self, rule: usize, role: Role, view: View, by: Pts) -> Option<WantId> {
        if self.out.len() >= MAX_OUT {
            return None;
        }
        self.last_id += 1;
        let id = WantId(self.last_id);
        self.out.insert(id, (rule, by));
        self.asked.push(Want { id, role, view, by });
        Some(id)
    }

    /// The wants since the last call.
    pub(crate) fn take(&mut self) -> Vec<Want> {
        std::mem::take(&mut self.asked)
    }

    /// Answers by rule. Unknown and second answers are dropped; what was not answered in time is answered here, so
    /// that each want gets exactly one answer.
    pub(crate) fn route(&mut self, now: Pts, answers: &[Answer]) -> BTreeMap<usize, Vec<Answer>> {
        let mut routed: BTreeMap<usize, Vec<Answer>> = BTreeMap::new();
        for answer in answers {
            if let Some((rule, _)) = self.out.remove(&answer.id) {
                routed.entry(rule).or_default().push(answer.clone());
            }
        }
        let late: Vec<(WantId, (usize, Pts))> =
            self.out.iter().filter(|(_, (_, by))| *by < now).map(|(id, out)| (*id, *out)).collect();
        for (id, (rule, _)) in late {
            self.out.remove(&id);
            routed.entry(rule).or_default().push(Answer { id, pts: now, value: AnswerValue::Unavailable });
        }
        routed
    }

    /// Forgets everything that is out: nobody waits for it any more.
    pub(crate) fn clear(&mut self) {
        self.out.clear();
        self.asked.clear();
    }
}
