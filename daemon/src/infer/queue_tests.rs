//! The queue: bounds, order, and that nothing is lost or starved.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn id(n: usize) -> CameraId {
    CameraId::new(format!("c{n}").as_str()).unwrap()
}

fn entry<J>(job: J, cost: u64) -> Entry<J> {
    Entry { job, queued: Mono(Duration::ZERO), cost }
}

const LATE: Lane = Lane::Want { by: Mono(Duration::from_secs(3600)) };

fn order<J>(queue: &mut FairQueue<J>) -> Vec<J> {
    std::iter::from_fn(|| queue.pop()).map(|entry| entry.job).collect()
}

#[test]
fn the_newest_frame_wins_and_keeps_its_place() {
    let mut queue = FairQueue::default();
    assert_eq!(queue.push(&id(0), Lane::Latest, entry(1, 1)), Pushed::Queued);
    assert_eq!(queue.push(&id(1), Lane::Latest, entry(2, 1)), Pushed::Queued);
    assert_eq!(queue.push(&id(0), Lane::Latest, entry(3, 1)), Pushed::Replaced(1));
    assert_eq!(order(&mut queue), [3, 2]);
}

#[test]
fn a_busy_camera_does_not_starve_a_calm_one_nor_frames_their_wants() {
    let mut queue = FairQueue::default();
    for n in 0..3 {
        queue.push(&id(0), LATE, entry(n, 1));
    }
    queue.push(&id(0), Lane::InOrder, entry(10, 1));
    queue.push(&id(0), Lane::InOrder, entry(11, 1));
    queue.push(&id(1), Lane::Latest, entry(20, 1));
    assert_eq!(order(&mut queue), [10, 20, 0, 11, 1, 2]);
}

#[test]
fn a_full_catch_up_waits_and_a_full_want_lane_sheds_its_oldest() {
    let mut queue = FairQueue::default();
    for n in 0..IN_ORDER_MAX {
        assert_eq!(queue.push(&id(0), Lane::InOrder, entry(n, 1)), Pushed::Queued);
    }
    assert_eq!(queue.push(&id(0), Lane::InOrder, entry(99, 1)), Pushed::Full(99, IN_ORDER_MAX));
    for n in 0..WANTS_MAX {
        assert_eq!(queue.push(&id(0), LATE, entry(100 + n, 1)), Pushed::Queued);
    }
    assert_eq!(queue.push(&id(0), LATE, entry(200, 1)), Pushed::Shed(100));
    assert_eq!(queue.waiting_of(&id(0)), IN_ORDER_MAX + WANTS_MAX);
}

/// Service in microseconds, not in jobs, is what is shared.
#[test]
fn cheap_jobs_get_as_much_time_as_dear_ones() {
    let mut queue = FairQueue::default();
    let (mut time, mut jobs) = ([0_u64; 2], [0_u64; 2]);
    for _ in 0..1100 {
        for (camera, cost) in [(0, 10), (1, 1)] {
            queue.push(&id(camera), Lane::InOrder, entry((camera, cost), cost));
        }
        let (camera, cost) = queue.pop().unwrap().job;
        time[camera] += cost;
        jobs[camera] += 1;
    }
    assert!(time[0].abs_diff(time[1]) <= 20 && jobs[1] > 9 * jobs[0], "{time:?} {jobs:?}");
}

#[derive(Clone, Debug)]
enum Step {
    Push(usize, u8, u64),
    Pop,
    Expire,
    Withdraw(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..4_usize, 0..3_u8, 1..40_u64).prop_map(|(c, lane, cost)| Step::Push(c, lane, cost)),
        3 => Just(Step::Pop),
        1 => Just(Step::Expire),
        1 => (0..4_usize).prop_map(Step::Withdraw),
    ];
    prop::collection::vec(step, 0..300)
}

proptest! {
    #[test]
    fn every_job_comes_out_exactly_once(steps in steps()) {
        let mut queue = FairQueue::default();
        let mut out: BTreeMap<usize, usize> = BTreeMap::new();
        for (n, step) in steps.iter().enumerate() {
            let now = Mono(Duration::from_millis(n as u64));
            let gone: Vec<usize> = match *step {
                Step::Push(camera, lane, cost) => {
                    out.insert(n, 0);
                    let by = Mono(now.0 + Duration::from_millis(cost));
                    let lane = [Lane::Latest, Lane::InOrder, Lane::Want { by }][usize::from(lane)];
                    match queue.push(&id(camera), lane, Entry { job: n, queued: now, cost }) {
                        Pushed::Queued => vec![],
                        Pushed::Replaced(job) | Pushed::Shed(job) | Pushed::Full(job, _) => vec![job],
                    }
                }
                Step::Pop => {
                    let before = queue.len();
                    let popped = queue.pop();
                    prop_assert_eq!(popped.is_some(), before > 0);
                    popped.into_iter().map(|e| e.job).collect()
                }
                Step::Expire => queue.expire(now).into_iter().map(|e| e.job).collect(),
                Step::Withdraw(camera) => queue.withdraw_frames(&id(camera)).into_iter().map(|e| e.job).collect(),
            };
            for job in gone {
                *out.get_mut(&job).unwrap() += 1;
            }
            prop_assert_eq!(queue.len(), out.values().filter(|times| **times == 0).count());
        }
        for entry in queue.drain() {
            *out.get_mut(&entry.job).unwrap() += 1;
        }
        prop_assert!(out.values().all(|times| *times == 1), "{:?}", out);
    }

    /// Between any two cameras that always have something waiting, service differs by less than a quantum, the largest
    /// job of each, and what the quantum has grown by, however long it goes on.
    #[test]
    fn service_of_backlogged_cameras_stays_close(costs in prop::collection::vec((1..50_u64, 1..50_u64, 1..50_u64), 1..200)) {
        let mut queue = FairQueue::default();
        let mut served = [0_u64; 3];
        for (a, b, c) in costs {
            for (camera, cost) in [a, b, c].into_iter().enumerate() {
                // Full is as good: something waits.
                queue.push(&id(camera), Lane::InOrder, entry((camera, cost), cost));
            }
            let (camera, cost) = queue.pop().unwrap().job;
            served[camera] += cost;
            let (most, least) = (served.iter().max().unwrap(), served.iter().min().unwrap());
            prop_assert!(most - least < 4 * 50, "{served:?}");
        }
    }
}
