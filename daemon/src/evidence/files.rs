//! The folder `evidence` of the state directory: `<camera>/<id>.jpg` and `<camera>/<id>.mp4`.
//!
//! Owns: names, and that a file has its name only when it is complete and on disk. Does not know: what is in the files,
//! but for what a crash may have torn off a clip: a fragmented MP4 is a row of boxes (ISO/IEC 14496-12, 4.2), and whole
//! fragments behind the `moov` can be played.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use uuid::Uuid;
use vedette_core::{CameraId, EvidenceKind, Severity};

/// In the state directory.
pub(super) const FOLDER: &str = "evidence";

/// In the place of an event's kind: whoever asked for it was answered, and nobody else hears of it.
pub(super) const COMMAND: &str = "command";

/// Ends the name of what is not complete.
const PART: &str = ".part";

/// A file that is to be made: which incident's, and what the word of it will say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Label {
    pub(super) camera: CameraId,
    pub(super) id: Uuid,
    pub(super) kind: EvidenceKind,
    /// Of the incident's events.
    pub(super) event_kind: &'static str,
    pub(super) severity: Severity,
    /// Capture time of the first frame.
    pub(super) from: Timestamp,
}

impl Label {
    /// The capture time of a frame so long behind the first. The wall clock may have stepped between them, from the
    /// host's to the camera's: PTS tell how long a clip is.
    pub(super) fn to(&self, length: Duration) -> Timestamp {
        self.from.checked_add(length).unwrap_or(Timestamp::MAX)
    }

    /// The name of the complete file.
    pub(super) fn name(&self) -> String {
        name(self.id, self.kind)
    }

    /// The name until then: all that a next start needs to complete it.
    fn part(&self) -> String {
        let (severity, from) = (severity_word(self.severity), self.from.as_millisecond());
        format!("{}.{}.{severity}.{from}{PART}", self.name(), self.event_kind)
    }

    /// Reads [`Label::part`].
    fn of_part(camera: &CameraId, part: &str) -> Option<Self> {
        let words: Vec<&str> = part.strip_suffix(PART)?.split('.').collect();
        let [id, ending, event_kind, severity, from] = words[..] else { return None };
        let kind = match ending {
            "jpg" => EvidenceKind::Snapshot,
            "mp4" => EvidenceKind::Clip,
            _ => return None,
        };
        Some(Self {
            camera: camera.clone(),
            id: Uuid::parse_str(id).ok()?,
            kind,
            // Given up for the life of the process: once a start, for each clip that a crash tore.
            event_kind: event_kind.to_owned().leak(),
            severity: SEVERITIES.into_iter().find(|&s| severity_word(s) == severity)?,
            from: Timestamp::from_millisecond(from.parse().ok()?).ok()?,
        })
    }
}

/// `<id>.jpg` or `<id>.mp4`.
pub(super) fn name(id: Uuid, kind: EvidenceKind) -> String {
    match kind {
        EvidenceKind::Snapshot => format!("{id}.jpg"),
        EvidenceKind::Clip => format!("{id}.mp4"),
    }
}

const SEVERITIES: [Severity; 5] =
    [Severity::Info, Severity::Review, Severity::Warning, Severity::Fault, Severity::Alarm];

fn severity_word(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Review => "review",
        Severity::Warning => "warning",
        Severity::Fault => "fault",
        Severity::Alarm => "alarm",
    }
}

/// A complete file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Complete {
    pub(super) bytes: u64,
    /// 64 hexadecimal digits.
    pub(super) sha256: String,
}

/// A file under its first name, empty. Dropped, it loses that name: with [`Draft::complete`] it has another.
pub(super) struct Draft {
    label: Label,
    path: PathBuf,
    file: File,
    done: bool,
}

impl Draft {
    /// Makes the file in `root` (the folder of evidence), readable by nobody else.
    pub(super) fn create(root: &Path, label: Label) -> io::Result<Self> {
        let folder = root.join(label.camera.as_str());
        if !folder.is_dir() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
            // A folder whose own name a power cut takes would take its files along.
            root.parent().into_iter().chain([root]).try_for_each(|above| File::open(above)?.sync_all())?;
        }
        let path = folder.join(label.part());
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        Ok(Self { label, path, file, done: false })
    }

    pub(super) fn label(&self) -> &Label {
        &self.label
    }

    /// Where others may write into it.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Brings what is written so far to the disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Cuts a clip behind its last whole fragment; false where it has none, and shows nothing.
    pub(super) fn cut(&mut self) -> io::Result<bool> {
        let whole = whole_fragments(&mut self.file)?;
        whole.map_or(Ok(false), |at| self.file.set_len(at).map(|()| true))
    }

    /// Gives it its name; from here on a power cut takes nothing away. It keeps the first one beside it until it is
    /// dropped, by which a next start knows that word of it may not have gone out.
    pub(super) fn complete(&mut self) -> io::Result<Complete> {
        self.file.sync_all()?;
        let complete = digest(&mut self.file)?;
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let named = folder.join(self.label.name());
        if fs::hard_link(&self.path, &named).is_err() && !is_one_file(&self.path, &named) {
            // Not every file system has two names for a file.
            fs::rename(&self.path, &named)?;
            self.done = true;
        }
        File::open(folder)?.sync_all()?;
        Ok(complete)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.done && fs::remove_file(&self.path).is_err() {
            log::warn!(camera = self.label.camera.as_str(); "{} is left behind", self.path.display());
        }
    }
}

/// Whether both names are there, of one file.
fn is_one_file(a: &Path, b: &Path) -> bool {
    let of = |path: &Path| fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    of(a).is_some_and(|a| of(b) == Some(a))
}

fn digest(file: &mut File) -> io::Result<Complete> {
    file.seek(SeekFrom::Start(0))?;
    let (mut hasher, mut bytes, mut buffer) = (Sha256::new(), 0, vec![0; 1 << 16]);
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            n => {
                hasher.update(&buffer[..n]);
                bytes += n as u64;
            }
        }
    }
    let sha256 = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Complete { bytes, sha256 })
}

/// One complete file, as it lies in the folder.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) path: PathBuf,
    pub(super) camera: CameraId,
    pub(super) bytes: u64,
    pub(super) made: Timestamp,
}

/// Files that are not complete, and whose they are.
type Parts = Vec<(CameraId, PathBuf)>;

/// What lies in the folder: complete files, and those that are not. What has no name of ours is left alone.
pub(super) fn list(root: &Path) -> io::Result<(Vec<Found>, Parts)> {
    let (mut found, mut parts) = (Vec::new(), Vec::new());
    let folders = match fs::read_dir(root) {
        Ok(folders) => folders,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((found, parts)),
        Err(error) => return Err(error),
    };
    for folder in folders {
        let folder = folder?;
        let Some(camera) = folder.file_name().to_str().and_then(|name| CameraId::new(name).ok()) else {
            continue;
        };
        if !folder.file_type()?.is_dir() {
            continue;
        }
        for entry in fs::read_dir(folder.path())? {
            let path = entry?.path();
            match path.extension().and_then(|e| e.to_str()) {
                Some("part") => parts.push((camera.clone(), path)),
                Some("jpg" | "mp4") => {
                    // One that is gone meanwhile is none.
                    let Ok(metadata) = fs::metadata(&path) else { continue };
                    let made = metadata
                        .modified()
                        .ok()
                        .and_then(|t| Timestamp::try_from(t).ok())
                        .unwrap_or_default();
                    found.push(Found { path, camera: camera.clone(), bytes: metadata.len(), made });
                }
                _ => {}
            }
        }
    }
    Ok((found, parts))
}

/// Takes over what a crash left unfinished: what is complete but for the word of it; a clip, which is cut behind its last
/// whole fragment and may be completed; all else is removed. With it comes the capture time of its last frame.
pub(super) fn adopt(camera: &CameraId, path: &Path) -> io::Result<Option<(Draft, Timestamp)>> {
    let label = path.file_name().and_then(|n| n.to_str()).and_then(|n| Label::of_part(camera, n));
    let is_complete = |label: &Label| is_one_file(path, &path.with_file_name(label.name()));
    let of_use = |label: &Label| match label.kind {
        EvidenceKind::Clip => true,
        EvidenceKind::Snapshot => label.event_kind != COMMAND && is_complete(label),
    };
    let Some(label) = label.filter(of_use) else {
        fs::remove_file(path)?;
        return Ok(None);
    };
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let last = match label.kind {
        EvidenceKind::Snapshot => label.from,
        EvidenceKind::Clip => Timestamp::try_from(file.metadata()?.modified()?).unwrap_or_default(),
    };
    let complete = is_complete(&label);
    let mut draft = Draft { label, path: path.to_owned(), file, done: false };
    if complete {
        return Ok(Some((draft, last)));
    }
    // Dropped without a fragment, it removes its file.
    Ok(draft.cut()?.then_some((draft, last)))
}

/// Where the last whole fragment ends; none without one.
fn whole_fragments(file: &mut File) -> io::Result<Option<u64>> {
    let length = file.metadata()?.len();
    let (mut at, mut whole, mut described, mut fragment) = (0, None, false, false);
    while at + 8 <= length {
        let mut header = [0; 8];
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut header)?;
        let [a, b, c, d, kind @ ..] = header;
        let mut size = u64::from(u32::from_be_bytes([a, b, c, d]));
        if size == 1 {
            let mut large = [0; 8];
            if file.read_exact(&mut large).is_err() {
                break;
            }
            size = u64::from_be_bytes(large);
        }
        // 0 stands for "up to the end": of something that was still being written.
        if size < 8 || at.checked_add(size).is_none_or(|end| end > length) {
            break;
        }
        at += size;
        match &kind {
            b"moov" => described = true,
            b"moof" => fragment = true,
            b"mdat" if described && fragment => whole = Some(at),
            _ => {}
        }
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn label(kind: EvidenceKind) -> Label {
        Label {
            camera: CameraId::new("gate").unwrap(),
            id: Uuid::from_u128(0x0192_0000_0000_7000_8000_0000_0000_0001),
            kind,
            event_kind: "line_crossing",
            severity: Severity::Alarm,
            from: "2026-11-24T02:35:37.12Z".parse().unwrap(),
        }
    }

    fn names(root: &Path) -> Vec<String> {
        let entries = fs::read_dir(root.join("gate")).unwrap();
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_has_its_name_once_it_is_complete() {
        use std::os::unix::fs::PermissionsExt;
        let root = tempfile::tempdir().unwrap();
        let mut draft = Draft::create(root.path(), label(EvidenceKind::Snapshot)).unwrap();
        draft.file().write_all(b"abc").unwrap();
        assert!(names(root.path())[0].ends_with(".part"));
        assert!(list(root.path()).unwrap().0.is_empty());
        let complete = draft.complete().unwrap();
        drop(draft);
        // FIPS 180-2, appendix B.1.
        let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad".to_owned();
        assert_eq!(complete, Complete { bytes: 3, sha256 });
        assert_eq!(names(root.path()), ["01920000-0000-7000-8000-000000000001.jpg"]);
        let found = list(root.path()).unwrap().0;
        assert_eq!((found.len(), found[0].bytes, found[0].camera.as_str()), (1, 3, "gate"));
        assert_eq!(fs::metadata(&found[0].path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_is_given_up_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        drop(Draft::create(root.path(), label(EvidenceKind::Clip)).unwrap());
        assert!(names(root.path()).is_empty());
    }

    fn boxes(parts: &[(&[u8; 4], usize)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (kind, length) in parts {
            bytes.extend(u32::try_from(length + 8).unwrap().to_be_bytes());
            bytes.extend(*kind);
            bytes.resize(bytes.len() + length, 0);
        }
        bytes
    }

    /// Leaves a draft as a crash does.
    fn torn(root: &Path, kind: EvidenceKind, bytes: &[u8]) -> PathBuf {
        let mut draft = Draft::create(root, label(kind)).unwrap();
        draft.file().write_all(bytes).unwrap();
        draft.done = true;
        draft.path().to_owned()
    }

    #[test]
    fn a_torn_clip_is_cut_behind_its_last_whole_fragment() {
        let root = tempfile::tempdir().unwrap();
        let whole = boxes(&[(b"ftyp", 16), (b"moov", 100), (b"moof", 60), (b"mdat", 500)]);
        for rest in [&[][..], &[0, 0], &boxes(&[(b"moof", 60)]), &boxes(&[(b"moof", 60), (b"mdat", 9)])[..80]]
        {
            let path = torn(root.path(), EvidenceKind::Clip, &[&whole[..], rest].concat());
            assert_eq!(list(root.path()).unwrap().1, [(CameraId::new("gate").unwrap(), path.clone())]);
            let (mut draft, _) = adopt(&CameraId::new("gate").unwrap(), &path).unwrap().unwrap();
            assert_eq!(*draft.label(), label(EvidenceKind::Clip));
            assert_eq!(draft.complete().unwrap().bytes, whole.len() as u64);
        }
    }

    #[test]
    fn what_a_crash_left_complete_is_taken_over_as_it_is() {
        let root = tempfile::tempdir().unwrap();
        for (kind, event_kind, told) in [
            (EvidenceKind::Snapshot, "intrusion", true),
            (EvidenceKind::Clip, "intrusion", true),
            (EvidenceKind::Snapshot, COMMAND, false),
        ] {
            let label = Label { event_kind, ..label(kind) };
            let mut draft = Draft::create(root.path(), label.clone()).unwrap();
            draft.file().write_all(b"more than fragments").unwrap();
            let complete = draft.complete().unwrap();
            let path = draft.path().to_owned();
            // The process ends here.
            draft.done = true;
            drop(draft);
            assert_eq!(names(root.path()).len(), 2, "its name, and the mark that nobody was told");
            let adopted = adopt(&label.camera, &path).unwrap();
            assert_eq!(adopted.is_some(), told, "{label:?}");
            adopted.into_iter().for_each(|(mut draft, _)| assert_eq!(draft.complete().unwrap(), complete));
            assert_eq!(names(root.path()), [label.name()]);
            fs::remove_file(root.path().join("gate").join(label.name())).unwrap();
        }
    }

    #[test]
    fn what_shows_nothing_is_removed() {
        let root = tempfile::tempdir().unwrap();
        let clips = [
            Vec::new(),
            boxes(&[(b"ftyp", 16), (b"moov", 100), (b"moof", 60)]),
            boxes(&[(b"ftyp", 16), (b"mdat", 100)]),
            vec![0; 64],
            vec![255; 64],
        ];
        for bytes in &clips {
            let path = torn(root.path(), EvidenceKind::Clip, bytes);
            assert!(adopt(&CameraId::new("gate").unwrap(), &path).unwrap().is_none());
        }
        let path = torn(root.path(), EvidenceKind::Snapshot, b"half a picture");
        assert!(adopt(&CameraId::new("gate").unwrap(), &path).unwrap().is_none());
        assert!(names(root.path()).is_empty());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_break_the_cut(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&bytes).unwrap();
            let whole = whole_fragments(&mut file).unwrap();
            proptest::prop_assert!(whole.is_none_or(|at| at <= bytes.len() as u64));
        }
    }
}
