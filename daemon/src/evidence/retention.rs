//! Which evidence is deleted when there is too much of it, or too little room.
//!
//! Owns: that decision. Does not know: the disk; pure, so that it is tested as such.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use vedette_core::CameraId;

/// One complete file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) camera: CameraId,
    pub(super) bytes: u64,
    pub(super) age: Duration,
    /// Whether events of its time still wait for a sink: somebody may yet ask for it.
    pub(super) awaited: bool,
}

/// What may be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) age: Duration,
    /// Of all files.
    pub(super) bytes: u64,
    /// Of the files of one camera.
    pub(super) camera_bytes: u64,
    /// Left free on the disk.
    pub(super) free: u64,
}

/// Which of `files` go, in this order, with `free` bytes free on the disk now. What is too old goes in any case; for
/// want of room the oldest goes first, but what is awaited only when nothing else is left.
pub(super) fn plan(files: &[Kept], bounds: &Bounds, free: u64) -> Vec<usize> {
    let mut room = Room { free, total: 0, cameras: BTreeMap::new() };
    for file in files {
        room.total += file.bytes;
        *room.cameras.entry(&file.camera).or_default() += file.bytes;
    }
    let (mut gone, mut left): (Vec<usize>, Vec<usize>) =
        (0..files.len()).partition(|&at| files[at].age > bounds.age);
    gone.sort_by_key(|&at| Reverse(files[at].age));
    gone.iter().for_each(|&at| room.without(&files[at]));
    left.sort_by_key(|&at| (files[at].awaited, Reverse(files[at].age)));
    // First within each camera: one that fills its share does not cost the others theirs.
    let mut stays = Vec::new();
    for at in left {
        let camera = &files[at].camera;
        if room.cameras.get(camera).is_some_and(|&bytes| bytes > bounds.camera_bytes) {
            room.without(&files[at]);
            gone.push(at);
        } else {
            stays.push(at);
        }
    }
    for at in stays {
        if room.total <= bounds.bytes && room.free >= bounds.free {
            break;
        }
        room.without(&files[at]);
        gone.push(at);
    }
    gone
}

/// What is taken, while it is planned.
struct Room<'a> {
    free: u64,
    total: u64,
    cameras: BTreeMap<&'a CameraId, u64>,
}

impl Room<'_> {
    fn without(&mut self, file: &Kept) {
        self.free = self.free.saturating_add(file.bytes);
        self.total -= file.bytes;
        if let Some(bytes) = self.cameras.get_mut(&file.camera) {
            *bytes -= file.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kept(camera: &str, bytes: u64, hours: u64, awaited: bool) -> Kept {
        let (camera, age) = (CameraId::new(camera).unwrap(), Duration::from_secs(3600 * hours));
        Kept { camera, bytes, age, awaited }
    }

    const WIDE: Bounds =
        Bounds { age: Duration::from_secs(3600 * 24), bytes: 1000, camera_bytes: 1000, free: 0 };

    #[test]
    fn nothing_goes_while_there_is_room() {
        let files = [kept("gate", 500, 1, false), kept("yard", 500, 24, false)];
        assert!(plan(&files, &WIDE, 0).is_empty());
    }

    #[test]
    fn what_is_too_old_goes_awaited_or_not() {
        let files = [kept("gate", 1, 25, true), kept("gate", 1, 30, false), kept("gate", 1, 3, false)];
        assert_eq!(plan(&files, &WIDE, 0), [1, 0]);
    }

    #[test]
    fn the_oldest_goes_first_and_what_is_awaited_last() {
        let files = [
            kept("a", 400, 9, true),
            kept("a", 400, 5, false),
            kept("b", 400, 7, false),
            kept("b", 400, 1, true),
        ];
        assert_eq!(plan(&files, &WIDE, 0), [2, 1]);
        assert_eq!(plan(&files, &Bounds { bytes: 500, ..WIDE }, 0), [2, 1, 0]);
    }

    #[test]
    fn a_camera_that_fills_its_share_pays_itself() {
        let files = [kept("quiet", 100, 20, false), kept("busy", 300, 3, false), kept("busy", 300, 2, false)];
        assert_eq!(plan(&files, &Bounds { camera_bytes: 400, ..WIDE }, 0), [1]);
    }

    #[test]
    fn a_disk_that_others_fill_is_made_room_on() {
        let files = [kept("a", 100, 2, false), kept("a", 100, 1, false)];
        assert_eq!(plan(&files, &Bounds { free: 150, ..WIDE }, 60), [0]);
        assert_eq!(plan(&files, &Bounds { free: 5000, ..WIDE }, 60), [0, 1]);
    }

    fn files() -> impl Strategy<Value = Vec<Kept>> {
        let file = (0..3_usize, 0..500_u64, 0..48_u64, any::<bool>());
        let kept = |(camera, bytes, hours, awaited)| kept(["a", "b", "c"][camera], bytes, hours, awaited);
        proptest::collection::vec(file.prop_map(kept), 0..40)
    }

    proptest! {
        #[test]
        fn the_bounds_hold_afterwards_and_nothing_goes_without_need(
            files in files(), bytes in 0..4000_u64, camera_bytes in 0..3000_u64, free in 0..2000_u64, wanted in 0..2000_u64,
        ) {
            let bounds = Bounds { bytes, camera_bytes, free: wanted, ..WIDE };
            let gone = plan(&files, &bounds, free);
            let once: std::collections::BTreeSet<usize> = gone.iter().copied().collect();
            prop_assert_eq!(once.len(), gone.len(), "each goes once");
            let sum = |of: &dyn Fn(usize) -> bool| (0..files.len()).filter(|&at| of(at)).map(|at| files[at].bytes).sum::<u64>();
            let stays = |at: usize| !once.contains(&at);
            prop_assert!((0..files.len()).filter(|&at| stays(at)).all(|at| files[at].age <= bounds.age));
            prop_assert!(sum(&stays) <= bytes);
            for camera in ["a", "b", "c"] {
                prop_assert!(sum(&|at| stays(at) && files[at].camera.as_str() == camera) <= camera_bytes);
            }
            prop_assert!(once.len() == files.len() || free + sum(&|at| !stays(at)) >= wanted);
            // Without the last one that went, some bound would be broken.
            if let Some(&last) = gone.last() {
                let kept = |at: usize| stays(at) || at == last;
                let of_camera = sum(&|at| kept(at) && files[at].camera == files[last].camera);
                let needed = files[last].age > bounds.age || sum(&kept) > bytes || of_camera > camera_bytes
                    || free + sum(&|at| !kept(at)) < wanted;
                prop_assert!(needed);
            }
        }

        #[test]
        fn nothing_awaited_goes_before_what_is_not(files in files(), bytes in 0..4000_u64, free in 0..500_u64) {
            let gone = plan(&files, &Bounds { bytes, camera_bytes: u64::MAX, ..WIDE }, free);
            for &victim in gone.iter().filter(|&&at| files[at].age <= WIDE.age && files[at].awaited) {
                let spared = |at: usize| !gone.contains(&at) && !files[at].awaited;
                prop_assert!(!(0..files.len()).any(spared), "{victim} went before what nobody awaits");
            }
        }
    }
}
