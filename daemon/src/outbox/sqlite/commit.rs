//! One transaction of the store: what it deletes, gives up, stores and saves, and what of it the memory learns once it
//! is committed.
//!
//! Owns: the bound of each sink and who is given up. Does not know: threads, what to do about errors.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use rusqlite::{Connection, TransactionBehavior};
use uuid::Uuid;
use vedette_core::{Name, Severity};

use super::incident::OpenIncident;
use super::messages;
use super::rows::{self, Hints, NewEvent};
use super::state::{self, LOT, Sink, State};
use crate::outbox::Stored;

/// Deliveries below a floor that are deleted at once, and those that a lowered bound gives up at once beside what comes,
/// so that appends in between do not wait for long.
pub(super) const GARBAGE: usize = 512;

/// What a transaction is to do.
#[derive(Default)]
pub(super) struct Work<'a> {
    /// In the order of their numbers; all above the last one given.
    pub(super) events: &'a [Arc<Stored>],
    /// For each of them, the sinks that do not get it.
    pub(super) uninterested: &'a [Vec<Name>],
    /// Unix milliseconds.
    pub(super) at: i64,
    /// What begins, goes on and ends, in order.
    pub(super) incidents: Vec<IncidentChange>,
    /// Events kept for each sink.
    pub(super) capacity: usize,
    /// How many deliveries to give up besides, where most waits.
    pub(super) shed: usize,
    /// Whether everything that was acknowledged is deleted, however little it is.
    pub(super) sweep: bool,
}

/// A change to the open incidents.
#[derive(Clone, Debug)]
pub(super) enum IncidentChange {
    /// It is open, and this is known of it.
    Open(Box<OpenIncident>),
    /// It needs no end any more.
    Ended(Uuid),
}

/// What a transaction does to one sink.
struct Plan {
    name: Name,
    attached: bool,
    depth: usize,
    dropped: u64,
    floor: u64,
    hints: Hints,
    save: bool,
    /// Acknowledged: deleted without a count.
    acked: Vec<u64>,
    /// Whether something below the floor is still to be deleted, without a count.
    garbage_left: bool,
    /// How many of what waits and what comes are given up.
    quota: usize,
    /// How many of those the sink's own bound asks for.
    over: usize,
    /// How many it asks for besides, which is more than one transaction gives up.
    excess: usize,
    victims: Vec<u64>,
    /// What comes and is not for this sink.
    others: Vec<u64>,
}

/// A committed transaction, to be told to the memory.
pub(super) struct Committed(Vec<Plan>);

/// Deletes, gives up, stores, commits. On an error nothing has changed.
pub(super) fn commit(
    connection: &mut Connection,
    state: &Mutex<State>,
    work: &Work<'_>,
) -> rusqlite::Result<Committed> {
    let (mut plans, last) = plan(&state::locked(state), work);
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for plan in &mut plans {
        plan.clean(&tx)?;
        plan.give_up(&tx, last, work.events)?;
    }
    for event in work.events {
        let sinks: Vec<_> = plans.iter().filter(|p| p.takes(event.seq)).map(|p| &p.name).collect();
        if !sinks.is_empty() {
            let packed = messages::pack(&event.messages);
            rows::insert(&tx, &NewEvent { stored: event, packed, at: work.at }, sinks.into_iter())?;
        }
    }
    if let Some(event) = work.events.last() {
        rows::count_to(&tx, event.seq)?;
    }
    for change in &work.incidents {
        match change {
            IncidentChange::Open(incident) => rows::save_incident(&tx, incident)?,
            IncidentChange::Ended(id) => rows::end_incident(&tx, *id)?,
        }
    }
    for plan in plans.iter().filter(|p| p.save || !p.victims.is_empty()) {
        let dropped = plan.dropped + plan.victims.len() as u64;
        rows::save_sink(&tx, &plan.name, plan.attached, dropped, plan.floor)?;
    }
    tx.commit()?;
    Ok(Committed(plans))
}

/// What is to be done to each sink, and the last number in the store.
fn plan(state: &State, work: &Work<'_>) -> (Vec<Plan>, u64) {
    let mut depths: BTreeMap<&Name, usize> =
        state.sinks.iter().filter(|(_, s)| s.attached).map(|(name, s)| (name, s.depth)).collect();
    let mut quotas: BTreeMap<&Name, usize> = BTreeMap::new();
    for _ in 0..work.shed {
        let Some((name, depth)) = depths.iter_mut().max_by_key(|(_, depth)| **depth) else { break };
        if *depth == 0 {
            break;
        }
        *depth -= 1;
        *quotas.entry(name).or_default() += 1;
    }
    let plan = |(name, sink): (&Name, &Sink)| {
        let for_others = work.events.iter().zip(work.uninterested).filter(|(_, who)| who.contains(name));
        let others: Vec<u64> = for_others.map(|(event, _)| event.seq).collect();
        let coming = work.events.len() - others.len();
        let held = if sink.attached { sink.depth + coming } else { 0 };
        let excess = held.saturating_sub(work.capacity);
        // What a crash has brought back gives way to events only, which by then may have been delivered again.
        let over = if coming > 0 || excess > GARBAGE { excess.min(coming + GARBAGE) } else { 0 };
        let quota = over.max(quotas.get(name).copied().unwrap_or(0));
        let sweep = work.sweep || quota > 0 || sink.acked.len() >= LOT;
        Plan {
            name: name.clone(),
            attached: sink.attached,
            depth: sink.depth,
            dropped: sink.dropped,
            floor: sink.floor,
            hints: sink.hints,
            save: sink.unsaved,
            acked: if sweep { sink.acked.iter().copied().collect() } else { Vec::new() },
            garbage_left: sink.garbage,
            quota,
            over,
            excess: excess.saturating_sub(quota),
            victims: Vec::new(),
            others,
        }
    };
    (state.sinks.iter().map(plan).collect(), state.last)
}

impl Plan {
    fn clean(&mut self, tx: &Connection) -> rusqlite::Result<()> {
        rows::remove(tx, &self.name, &self.acked)?;
        if self.garbage_left {
            let garbage = rows::up_to(tx, &self.name, self.floor, GARBAGE)?;
            self.garbage_left = garbage.len() == GARBAGE;
            rows::remove(tx, &self.name, &garbage)?;
        }
        Ok(())
    }

    /// Of what waits and what comes, the oldest of the lowest severity.
    fn give_up(&mut self, tx: &Connection, last: u64, coming: &[Arc<Stored>]) -> rusqlite::Result<()> {
        if self.quota == 0 {
            return Ok(());
        }
        let mut hints = self.hints;
        let waiting = rows::victims(tx, &self.name, self.quota.min(self.depth), last, &mut hints)?;
        let mut all: Vec<(Severity, u64)> = waiting;
        let mine = coming.iter().filter(|event| !self.others.contains(&event.seq));
        all.extend(mine.map(|event| (event.severity, event.seq)));
        all.sort_unstable();
        // Where nothing that comes is urgent enough to stay, nothing behind it needs to make room.
        let last_coming = all.iter().rposition(|(_, seq)| *seq > last).map_or(self.quota, |at| at + 1);
        let quota = self.quota.min(last_coming.max(self.over));
        for (severity, seq) in all.iter().skip(quota) {
            // It was looked at and stays: the next to be looked at.
            let hint = &mut hints[*severity as usize];
            *hint = (*hint).min(*seq);
        }
        all.truncate(quota);
        self.hints = hints;
        self.victims = all.into_iter().map(|(_, seq)| seq).collect();
        let stored: Vec<u64> = self.victims.iter().copied().filter(|seq| *seq <= last).collect();
        rows::remove(tx, &self.name, &stored)
    }

    fn takes(&self, seq: u64) -> bool {
        self.attached && !self.victims.contains(&seq) && !self.others.contains(&seq)
    }
}

impl Committed {
    /// Tells the memory.
    pub(super) fn publish(self, state: &mut State, work: &Work<'_>) {
        let before = state.last;
        for plan in &self.0 {
            let Some(sink) = state.sinks.get_mut(&plan.name) else { continue };
            for seq in &plan.acked {
                sink.acked.remove(seq);
            }
            sink.garbage = plan.garbage_left;
            sink.hints = plan.hints;
            sink.unsaved &= !plan.save && plan.victims.is_empty();
            let mut known = before;
            for event in work.events {
                if plan.takes(event.seq) {
                    sink.push(event, known);
                } else {
                    sink.pass(event.seq, known);
                    sink.dropped += u64::from(plan.victims.contains(&event.seq));
                }
                known = event.seq;
            }
            for seq in plan.victims.iter().filter(|seq| **seq <= before) {
                sink.drop_one(*seq);
            }
            if sink.depth < work.capacity - work.capacity / 10 && plan.victims.is_empty() {
                sink.complained = false;
            }
            // Before the bound holds, the number that waits is not the last word.
            if !plan.victims.is_empty() && plan.excess == 0 && !std::mem::replace(&mut sink.complained, true)
            {
                let (name, depth) = (&plan.name, sink.depth);
                log::error!(
                    broker = name.as_str();
                    "broker {name}: {depth} events wait and no more are kept: the oldest of the lowest severity are \
                     dropped and counted until it takes them again"
                );
            }
        }
        if let Some(event) = work.events.last() {
            state.last = event.seq;
        }
    }

    /// Whether something is still to be deleted or given up that no append waits for.
    pub(super) fn leaves_work(&self) -> bool {
        // What the next event takes along waits for it. Where nothing was found, another look finds nothing either.
        self.0.iter().any(|plan| plan.garbage_left || (plan.excess > GARBAGE && !plan.victims.is_empty()))
    }
}
