//! Cameras that stand on no network: a file played as one, a video device, the built-in test picture.
//!
//! Owns: their addresses, the table of which description receives each, and what can be wrong with them. Does not
//! know: pipelines, replay (which decodes a file as fast as it can, and ends with it).

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;

use gstreamer as gst;
use gstreamer::prelude::*;
use url::Url;
use vedette_core::secret::redacted;

use crate::{Fault, FaultClass};

/// One scheme of address.
#[derive(Debug, PartialEq, Eq)]
struct Scheme {
    name: &'static str,
    /// How an address is written.
    example: &'static str,
    /// The description that receives it, where the camera names none.
    description: &'static str,
    /// Which property of the element `source` takes what it is given, and as what.
    given: Option<(&'static str, Given)>,
    /// Played at the pace of its times, and again from its beginning at its end: a camera never ends.
    repeats: bool,
}

/// What an element wants to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Given {
    Path,
    Address,
}

/// To receive something else: a line here, and a description.
static SCHEMES: [Scheme; 3] = [
    Scheme {
        name: "file",
        example: "file:///PATH",
        description: "play",
        given: Some(("uri", Given::Address)),
        repeats: true,
    },
    Scheme {
        name: "v4l2",
        example: "v4l2:///dev/video0",
        description: "v4l2",
        given: Some(("device", Given::Path)),
        repeats: false,
    },
    Scheme { name: "test", example: "test://", description: "test", given: None, repeats: false },
];

/// A camera on this machine, its address checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    scheme: &'static Scheme,
    url: Url,
    path: PathBuf,
}

impl Local {
    /// Of an address with a scheme of this table; absent for any other.
    ///
    /// # Errors
    /// An address of such a scheme that is not written as it must be: what is wrong, and how it is written.
    pub fn of(address: &str) -> Option<Result<Self, String>> {
        let url = Url::parse(address).ok()?;
        let scheme = SCHEMES.iter().find(|s| s.name == url.scheme())?;
        Some(Self::new(scheme, url))
    }

    fn new(scheme: &'static Scheme, url: Url) -> Result<Self, String> {
        // What is not written as it must be may be the address of a camera with a login in it.
        let shown = redacted(url.as_str());
        let wrong = |what: &str| Err(format!("`{shown}` {what}: write {}", scheme.example));
        if url.host_str().is_some_and(|host| !host.is_empty()) {
            return wrong("names a host, but is on this machine");
        }
        if scheme.repeats && (url.query().is_some() || url.fragment().is_some()) {
            return wrong(
                "takes no `?` or `#` (in a name %3F and %23; as fast as it can, a file is played by `vedette replay`)",
            );
        }
        if url.query().is_some() || url.fragment().is_some() {
            return wrong("takes no `?` or `#`");
        }
        let named = url.path().len() > 1;
        if named != scheme.given.is_some() {
            return wrong(if named { "takes no path" } else { "names nothing" });
        }
        let path = crate::source::unescaped(url.path()).into();
        Ok(Self { scheme, url, path })
    }

    /// Schemes of such addresses, as in `file:///PATH`.
    pub fn schemes() -> impl Iterator<Item = &'static str> {
        SCHEMES.iter().map(|scheme| scheme.name)
    }

    /// Its scheme, such as `file`.
    pub fn scheme(&self) -> &'static str {
        self.scheme.name
    }

    /// Whether what it names is there and may be read now. A device may be plugged in later.
    ///
    /// # Errors
    /// What is not, and what to do.
    pub fn look(&self) -> Result<(), Fault> {
        if self.scheme.given.is_none() {
            return Ok(());
        }
        // Not opened before it is known what it is: a named pipe would wait for its other end.
        let about = std::fs::metadata(&self.path).map_err(|error| self.unreadable(&error))?;
        let (fits, wrong) = match self.scheme.repeats {
            true => (about.is_file(), "is no file"),
            false => (about.file_type().is_char_device(), "is no device"),
        };
        if !fits {
            return Err(self.fault_of(FaultClass::BadUrl, wrong, &format!("write {}", self.scheme.example)));
        }
        File::open(&self.path).map(drop).map_err(|error| self.unreadable(&error))
    }

    fn unreadable(&self, error: &std::io::Error) -> Fault {
        match (error.kind(), self.scheme.repeats) {
            (ErrorKind::NotFound, true) => self.fault_of(
                FaultClass::NotFound,
                "is not there",
                "check the path; the service sees nothing below /home and /tmp",
            ),
            // Of the link: it is looked for every few seconds, and may be plugged in again.
            (ErrorKind::NotFound, false) => self.fault_of(
                FaultClass::Refused,
                "is not there",
                "plug the camera in, see `ls /dev/video*`; the service needs the drop-in v4l2.conf",
            ),
            (ErrorKind::PermissionDenied, true) => self.fault_of(
                FaultClass::NotFound,
                "may not be read",
                "let the user `vedette` read the file and enter its folders",
            ),
            (ErrorKind::PermissionDenied, false) => self.fault_of(
                FaultClass::NotFound,
                "may not be opened",
                "join the group `video`; the service needs the drop-in v4l2.conf",
            ),
            // Among them a device that another program has (EBUSY): it may be free soon.
            _ => self.fault_of(FaultClass::Read, &format!("cannot be opened ({error})"), "trying again"),
        }
    }

    fn fault_of(&self, class: FaultClass, what: &str, remedy: &str) -> Fault {
        Fault::new(class, format!("{} {what}", self.url), remedy)
    }

    /// What went wrong while it was played, in words. `detail` is GStreamer's own text.
    pub(crate) fn fault(&self, class: FaultClass, detail: &str) -> Fault {
        if let Err(fault) = self.look() {
            return fault;
        }
        match (class, self.scheme.name) {
            // What is in the file and not taken counts as a plugin that is missing.
            (
                FaultClass::Codec | FaultClass::Undecodable | FaultClass::NotFound | FaultClass::MissingElement,
                "file",
            ) => self.fault_of(
                FaultClass::Codec,
                &format!("holds no H.264, H.265 or MJPEG video that can be read ({detail})"),
                "convert it (`ffmpeg -i FILE -c:v libx264 -an OUT.mp4`), or use `vedette replay FILE`",
            ),
            (FaultClass::Codec, "v4l2") => self.fault_of(
                class,
                &format!("does not give what the pipeline wants ({detail})"),
                "set `pipeline` to v4l2, v4l2-h264 or v4l2-raw: `v4l2-ctl --list-formats` tells what it gives",
            ),
            (FaultClass::MissingElement, _) => self.fault_of(
                class,
                &format!("needs a plugin that is not installed ({detail})"),
                "run `vedette doctor`",
            ),
            (FaultClass::Stalled, _) => self.fault_of(class, "gives no pictures", "trying again"),
            (FaultClass::Ended, _) => self.fault_of(class, "came to its end", "trying again"),
            _ => self.fault_of(class, &format!("cannot be read ({detail})"), "trying again"),
        }
    }

    /// Its address, as it was given.
    pub(crate) fn address(&self) -> &str {
        self.url.as_str()
    }

    /// The description that receives it.
    pub(crate) fn description(&self) -> &'static str {
        self.scheme.description
    }

    /// Whether it is played at the pace of its times and begins anew at its end.
    pub(crate) fn repeats(&self) -> bool {
        self.scheme.repeats
    }

    /// Tells an element which file or device to open; one that cannot be told has it in its launch text.
    pub(crate) fn configure(&self, source: &gst::Element) {
        let Some((property, given)) = self.scheme.given.filter(|(name, _)| source.has_property(name)) else {
            return;
        };
        match (given, self.path.to_str()) {
            (Given::Path, Some(path)) => source.set_property(property, path),
            _ => source.set_property(property, self.url.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    use crate::testing::{self, config, fault, next_packet, open};
    use crate::{Codec, Receiver};

    fn local(address: &str) -> Local {
        Local::of(address).expect("a scheme of the table").unwrap_or_else(|wrong| panic!("{wrong}"))
    }

    #[test]
    fn addresses_are_read() {
        assert_eq!(local("file:///a/b%20c.mp4").path, Path::new("/a/b c.mp4"));
        assert_eq!(local("v4l2:///dev/video0").path, Path::new("/dev/video0"));
        assert_eq!(local("test://").description(), "test");
        assert_eq!(Local::of("rtsp://cam/1"), None);
        assert_eq!(Local::of("a.mp4"), None);
        assert_eq!(Local::schemes().collect::<Vec<_>>(), ["file", "v4l2", "test"]);
    }

    #[test]
    fn what_is_written_wrongly_is_told() {
        struct Case(&'static str, &'static str);
        for Case(address, part) in [
            Case("file://server/a.mp4", "names a host"),
            Case("file:///", "names nothing"),
            Case("file:///a.mp4?speed=full", "vedette replay"),
            Case("v4l2://", "write v4l2:///dev/video0"),
            Case("v4l2://video0", "names a host"),
            Case("v4l2:///dev/video0?fps=5", "takes no `?`"),
            Case("test:///bars", "takes no path"),
        ] {
            let error = Local::of(address).expect(address).expect_err(address);
            assert!(error.contains(part), "{address}: {error}");
        }
        for address in ["v4l2://admin:geheim@cam", "test://admin:geheim@cam/x", "file:///x?password=geheim"] {
            let error = Local::of(address).expect(address).expect_err(address);
            assert!(!error.contains("geheim"), "{error}");
        }
    }

    #[test]
    fn what_is_not_there_is_told_with_a_remedy() {
        struct Case(&'static str, FaultClass, &'static str);
        for Case(address, class, remedy) in [
            Case("file:///nowhere/a.mp4", FaultClass::NotFound, "check the path"),
            Case("file:///dev", FaultClass::BadUrl, "file:///PATH"),
            Case("v4l2:///dev/video97", FaultClass::Refused, "plug the camera in"),
            Case("v4l2:///etc/hostname", FaultClass::BadUrl, "v4l2:///dev/video0"),
        ] {
            testing::init();
            let refused = Receiver::open(&config(address), &testing::descriptions(), testing::clock())
                .err()
                .unwrap_or_else(|| panic!("{address} should be refused"));
            assert_eq!(
                (refused.class, local(address).look().err()),
                (class, Some(refused.clone())),
                "{address}"
            );
            assert!(refused.to_string().contains(remedy), "{refused}");
        }
        assert_eq!(local("test://").look(), Ok(()));
    }

    #[test]
    fn the_test_picture_moves_at_its_own_pace() {
        let receiver = open(&config("test://"));
        let packets: Vec<_> = (0..25).map(|_| next_packet(&receiver)).collect();
        assert!(packets[0].keyframe && packets.iter().filter(|p| p.keyframe).count() >= 2);
        assert_eq!((packets[0].stream.codec, packets[0].stream.width), (Codec::H264, 640));
        let took = packets[24].arrival.since(packets[0].arrival).as_secs_f64();
        assert!(took > 1.5, "24 pictures at 10 a second came in {took} s");
        let sizes = || packets.iter().filter(|p| !p.keyframe).map(|p| p.data.len());
        assert!(sizes().max() > Some(100), "what moves costs bits");
        assert!(receiver.close());
    }

    /// A file in which `encoder` has coded 15 pictures at 25 fps.
    fn file(folder: &Path, name: &str, encode: &str) -> String {
        testing::init();
        let path = folder.join(name);
        let text = format!(
            "videotestsrc num-buffers=15 pattern=ball ! video/x-raw,width=160,height=120,framerate=25/1 ! {encode} \
             ! filesink location=\"{}\"",
            path.display()
        );
        let pipeline = gst::parse::launch(&text).unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        let bus = pipeline.bus().unwrap();
        let kinds = [gst::MessageType::Eos, gst::MessageType::Error];
        let end = bus.timed_pop_filtered(gst::ClockTime::from_seconds(30), &kinds).unwrap();
        assert!(matches!(end.view(), gst::MessageView::Eos(_)), "{end:?}");
        pipeline.set_state(gst::State::Null).unwrap();
        format!("file://{}", path.display())
    }

    #[test]
    fn a_file_is_played_at_its_pace_again_and_again() {
        let folder = tempfile::tempdir().unwrap();
        let x264 = "x264enc tune=zerolatency key-int-max=5 ! h264parse";
        for (name, encode, codec) in [
            ("a b.mp4", format!("{x264} ! mp4mux"), Codec::H264),
            ("a.mkv", format!("{x264} ! matroskamux"), Codec::H264),
            // Sound is left aside.
            (
                "loud.mp4",
                format!("{x264} ! mp4mux name=m audiotestsrc num-buffers=60 ! avenc_aac ! m. m."),
                Codec::H264,
            ),
            ("a.avi", "jpegenc ! avimux".to_owned(), Codec::Mjpeg),
            ("a.ts", "x265enc key-int-max=5 ! h265parse ! mpegtsmux".to_owned(), Codec::H265),
        ] {
            let address = file(folder.path(), name, &encode).replace(' ', "%20");
            let receiver = open(&config(&address));
            let packets: Vec<_> = (0..40).map(|_| next_packet(&receiver)).collect();
            assert_eq!(packets[0].stream.codec, codec, "{name}");
            let laps = packets
                .windows(2)
                .filter(|w| w[1].stream_pts.unwrap() + 200_000_000 < w[0].stream_pts.unwrap());
            assert_eq!(laps.count(), 2, "{name}");
            let took = packets[39].arrival.since(packets[0].arrival).as_secs_f64();
            assert!(took > 1.3, "{name}: 39 pictures at 25 a second came in {took} s");
            assert!(receiver.close());
        }
    }

    #[test]
    fn a_file_that_holds_nothing_to_receive_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let text = folder.path().join("notes.mp4");
        std::fs::write(&text, "no film").unwrap();
        let others =
            [file(folder.path(), "a.avi", "avenc_mpeg4 ! avimux"), format!("file://{}", text.display())];
        for address in others {
            let fault = fault(&open(&config(&address)));
            assert_eq!(fault.class, FaultClass::Codec, "{fault}");
            assert!(fault.message.contains(&address) && fault.remedy.contains("ffmpeg -i"), "{fault}");
        }
    }
}
