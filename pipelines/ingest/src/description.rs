//! The files of `pipelines/descriptions/`: one ingest pipeline each, as text for GStreamer with named elements.
//!
//! Owns: reading and checking them, and which plugin package has an element. Does not know: what flows through the
//! pipelines. Only this file opens that folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use gstreamer as gst;

use crate::{Codec, Fault, FaultClass};

/// What a description is for, and which named elements its launch text must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DescriptionKind {
    /// The head of receive pipelines: `source`, whose pads appear when the codec is known.
    Source,
    /// A tail for one codec that ends in `packets` (with `source = "…"`), or a whole pipeline up to `packets`.
    Receive,
    /// From `in` (access units) to `out` (I420, NV12 or GRAY8).
    Decode,
    /// From `source` (a file) by `decode` to `out`.
    File,
    /// From `source` (a file) to `packets` of one codec.
    Packets,
    /// From `in` (access units) to `out` (a file).
    Clip,
    /// From `in` (pictures) to `out` (a file).
    Encode,
    /// From `in` (one picture) to `out` (a JPEG).
    Snapshot,
}

impl DescriptionKind {
    const fn named_elements(self) -> &'static [&'static str] {
        match self {
            Self::Source => &["source"],
            Self::Receive => &["packets"],
            Self::Decode | Self::Clip | Self::Encode | Self::Snapshot => &["in", "out"],
            Self::File => &["source", "decode", "out"],
            Self::Packets => &["source", "packets"],
        }
    }
}

/// What the code can put into a launch text.
const PLACEHOLDERS: [&str; 1] = ["protocols"];

/// One pipeline.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// The file's stem: its name in the configuration.
    #[serde(skip)]
    pub name: String,
    /// One line for lists.
    pub about: String,
    /// What it is for.
    pub kind: DescriptionKind,
    /// The codec it is for; `receive`, `decode` and `clip` need one.
    pub codec: Option<Codec>,
    /// Of `receive`: the description of kind `source` whose pads it is linked to. Absent: the launch text is whole.
    pub source: Option<String>,
    /// Of `decode`: of those whose elements there are, the highest wins; default 0. `libav` is at 1: give a decoder
    /// that shall be tried before it 10.
    #[serde(default)]
    pub rank: i32,
    /// Of `decode`: it needs a device, so nothing is wrong where its elements are not there. Default: false.
    #[serde(default)]
    pub hardware: bool,
    /// Elements the launch text uses.
    pub requires: Vec<String>,
    /// `{names}` in the launch text that the code fills in; there is `protocols` (`tcp` or `udp`).
    #[serde(default)]
    pub placeholders: Vec<String>,
    /// Text for GStreamer's launch parser; `{{` and `}}` stand for braces.
    pub launch: String,
}

impl Description {
    fn parse(name: &str, text: &str) -> Result<Self, String> {
        let mut this: Self = toml::from_str(text).map_err(|error| error.to_string().trim().to_owned())?;
        name.clone_into(&mut this.name);
        if let Some(unknown) = this.placeholders.iter().find(|p| !PLACEHOLDERS.contains(&p.as_str())) {
            return Err(format!("no placeholder `{unknown}`; there are: {}", PLACEHOLDERS.join(", ")));
        }
        use DescriptionKind::{Encode, File, Snapshot, Source};
        if matches!(this.kind, Source | File | Encode | Snapshot) == this.codec.is_some() {
            let kinds =
                "`codec` belongs to the kinds `receive`, `decode`, `packets` and `clip`, and they need it";
            return Err(kinds.to_owned());
        }
        if this.source.is_some() && this.kind != DescriptionKind::Receive {
            return Err("`source` belongs to the kind `receive`".to_owned());
        }
        for element in this.kind.named_elements() {
            if !this.launch.split_whitespace().any(|word| word.strip_prefix("name=") == Some(element)) {
                return Err(format!("the launch text has no element with name={element}"));
            }
        }
        this.filled(&[("protocols", "tcp")])?;
        Ok(this)
    }

    /// The launch text with its placeholders filled in.
    pub(crate) fn filled(&self, values: &[(&str, &str)]) -> Result<String, String> {
        let mut text = String::with_capacity(self.launch.len());
        let mut rest = self.launch.as_str();
        while let Some(at) = rest.find(['{', '}']) {
            text.push_str(&rest[..at]);
            let brace = &rest[at..=at];
            rest = &rest[at + 1..];
            if let Some(tail) = rest.strip_prefix(brace) {
                text.push_str(brace);
                rest = tail;
                continue;
            }
            let name = rest.split_once('}').filter(|_| brace == "{");
            let Some((name, tail)) = name else {
                return Err(format!("a single `{brace}`: write `{brace}{brace}` for a brace"));
            };
            let declared = self.placeholders.iter().any(|p| p == name);
            let value = values.iter().find(|(n, _)| *n == name && declared);
            let Some((_, value)) = value else {
                return Err(format!("`{{{name}}}` is not declared in `placeholders`"));
            };
            text.push_str(value);
            rest = tail;
        }
        text.push_str(rest);
        Ok(text)
    }

    /// What GStreamer makes of the launch text.
    pub(crate) fn launch<T>(
        &self,
        values: &[(&str, &str)],
        parse: impl FnOnce(&str) -> Result<T, gst::glib::Error>,
    ) -> Result<T, Fault> {
        let text = self.filled(values).map_err(|what| self.wrong(&what))?;
        parse(&text).map_err(|error| self.wrong(&error))
    }

    /// A fault of the description itself.
    pub(crate) fn wrong(&self, what: &dyn std::fmt::Display) -> Fault {
        let what = format!("pipeline `{}`: {what}", self.name);
        Fault::new(FaultClass::MissingElement, what, "correct its launch text")
    }

    /// A named element of the launch text is not there, or is none of the kind that is needed.
    pub(crate) fn lacks(&self, element: &str) -> Fault {
        self.wrong(&format_args!("no fitting element has name={element}"))
    }

    pub(crate) fn missing(&self) -> impl Iterator<Item = &String> {
        self.requires.iter().filter(|element| gst::ElementFactory::find(element).is_none())
    }

    /// An error that names the first element that is not there and the package that has it.
    pub(crate) fn check_elements(&self) -> Result<(), Fault> {
        let Some(element) = self.missing().next() else { return Ok(()) };
        let what = format!("pipeline `{}` needs the GStreamer element `{element}`", self.name);
        let remedy = package_of(element).map_or_else(
            || "install the plugin that has it".to_owned(),
            |package| format!("install the package {package}"),
        );
        Err(Fault::new(FaultClass::MissingElement, what, remedy))
    }
}

/// An element that a description uses and this machine does not have.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct MissingElement {
    /// Its factory name.
    pub element: String,
    /// The Debian package that has it, where known.
    pub package: Option<&'static str>,
    /// The description that uses it.
    pub description: String,
}

/// Why descriptions could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DescriptionError {
    /// The folder or file cannot be read.
    #[error("{path}: {error}", path = .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The file is no description.
    #[error("{path}: {what}", path = .path.display())]
    Wrong {
        /// Which.
        path: PathBuf,
        /// What is wrong in it, and what would be right.
        what: String,
    },
    /// No description has this name.
    #[error("no pipeline `{name}`; there are: {known}")]
    Unknown {
        /// The name asked for.
        name: String,
        /// Those there are.
        known: String,
    },
}

/// All descriptions, by name.
#[derive(Clone, Debug, Default)]
pub struct Descriptions {
    all: BTreeMap<String, Description>,
}

impl Descriptions {
    /// Reads every `*.toml` of the folders; one of a later folder replaces one of the same name in an earlier. A
    /// folder that does not exist is an error.
    pub fn load(folders: &[PathBuf]) -> Result<Self, DescriptionError> {
        let mut all = BTreeMap::new();
        for folder in folders {
            let unreadable = |error| DescriptionError::Read { path: folder.clone(), error };
            for entry in std::fs::read_dir(folder).map_err(unreadable)? {
                let path = entry.map_err(unreadable)?.path();
                if path.extension().is_some_and(|extension| extension == "toml") {
                    let description = Self::read(&path)?;
                    all.insert(description.name.clone(), description);
                }
            }
        }
        Ok(Self { all })
    }

    fn read(path: &Path) -> Result<Description, DescriptionError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| DescriptionError::Read { path: path.to_owned(), error })?;
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        Description::parse(&name, &text)
            .map_err(|what| DescriptionError::Wrong { path: path.to_owned(), what })
    }

    /// The description of a name, or which there are.
    pub fn get(&self, name: &str) -> Result<&Description, DescriptionError> {
        self.all.get(name).ok_or_else(|| DescriptionError::Unknown {
            name: name.to_owned(),
            known: self.all.keys().map(String::as_str).collect::<Vec<_>>().join(", "),
        })
    }

    /// All, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Description> {
        self.all.values()
    }

    /// The elements that descriptions use and this machine does not have, those that come with a device apart. After
    /// [`crate::init`].
    pub fn missing_elements(&self) -> Vec<MissingElement> {
        let of = |d: &Description| {
            d.missing()
                .map(|element| MissingElement {
                    element: element.clone(),
                    package: package_of(element),
                    description: d.name.clone(),
                })
                .collect::<Vec<_>>()
        };
        self.iter().filter(|d| !d.hardware).flat_map(of).collect()
    }

    /// The description of a name, as a fault where there is none or it is of another kind.
    pub(crate) fn of_kind(&self, name: &str, kinds: &[DescriptionKind]) -> Result<&Description, Fault> {
        let remedy = "see pipelines/descriptions, or leave `pipeline` out";
        let found = self
            .get(name)
            .map_err(|error| Fault::new(FaultClass::MissingElement, error.to_string(), remedy))?;
        if kinds.contains(&found.kind) {
            return Ok(found);
        }
        let what = format!("pipeline `{name}` is of kind {:?}, needed is one of {kinds:?}", found.kind);
        Err(Fault::new(FaultClass::MissingElement, what, remedy))
    }

    /// The description of kind `clip` for a codec.
    pub(crate) fn clip(&self, codec: Codec) -> Option<&Description> {
        self.all_of_kind(DescriptionKind::Clip).find(|d| d.codec == Some(codec))
    }

    /// All of a kind, in order of their names.
    pub(crate) fn all_of_kind(&self, kind: DescriptionKind) -> impl Iterator<Item = &Description> {
        self.iter().filter(move |d| d.kind == kind)
    }

    /// The decode descriptions for a codec, the highest rank first, whether their elements are there or not.
    pub(crate) fn decoders(&self, codec: Codec) -> Vec<&Description> {
        let fitting = |d: &&Description| d.kind == DescriptionKind::Decode && d.codec == Some(codec);
        let mut fitting: Vec<_> = self.iter().filter(fitting).collect();
        fitting.sort_by_key(|d| std::cmp::Reverse(d.rank));
        fitting
    }

    /// The decode description of a name; its elements are there and it is for this codec.
    pub(crate) fn decoder_of_name(&self, name: &str, codec: Codec) -> Result<&Description, Fault> {
        let found = self.of_kind(name, &[DescriptionKind::Decode])?;
        match found.codec {
            Some(other) if other != codec => {
                let what = format!("the stream is {codec} and decoder `{name}` is for {other}");
                Err(Fault::new(FaultClass::Codec, what, "choose another `decoder`, or `auto`"))
            }
            _ => found.check_elements().map(|()| found),
        }
    }

    /// Why there is no decoder for a codec: what the first that would be one lacks.
    pub(crate) fn no_decoder(&self, codec: Codec) -> Fault {
        let lame = self.decoders(codec).into_iter().rev().find_map(|d| d.check_elements().err());
        lame.unwrap_or_else(|| {
            Fault::new(
                FaultClass::MissingElement,
                format!("no description of kind decode is for {codec}"),
                "add one to pipelines/descriptions",
            )
        })
    }
}

/// Which Debian 12 package has an element of the shipped descriptions or of the common hardware decoders.
fn package_of(element: &str) -> Option<&'static str> {
    Some(match element {
        "appsrc" | "appsink" | "decodebin" | "uridecodebin" | "videoconvert" | "videotestsrc" => {
            "gstreamer1.0-plugins-base"
        }
        "filesrc" | "filesink" => "libgstreamer1.0-0",
        "rtspsrc" | "rtpbin" | "rtpjitterbuffer" | "udpsrc" | "jpegdec" | "jpegenc" | "mp4mux" => {
            "gstreamer1.0-plugins-good"
        }
        _ if element.starts_with("v4l2sl") => "gstreamer1.0-plugins-bad",
        _ if element.starts_with("rtp") || element.starts_with("v4l2") => "gstreamer1.0-plugins-good",
        "mppvideodec" => "gstreamer1.0-rockchip",
        "h264parse" | "h265parse" | "h264timestamper" | "h265timestamper" | "jpegparse" | "openh264dec"
        | "openh264enc" => "gstreamer1.0-plugins-bad",
        // The old VA-API elements have a package of their own; `va` is the new ones' beginning, and theirs too.
        _ if element.starts_with("vaapi") => "gstreamer1.0-vaapi",
        _ if element.starts_with("va") || element.starts_with("nv") => "gstreamer1.0-plugins-bad",
        _ if element.starts_with("av") => "gstreamer1.0-libav",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use gst::prelude::*;

    const WHOLE: &str = "about = 'x'\nkind = 'decode'\ncodec = 'h264'\nrequires = []\n";

    #[test]
    fn every_shipped_description_parses_and_its_elements_exist() {
        let all = testing::descriptions();
        assert_eq!(all.missing_elements(), [], "install the plugins");
        for description in all.iter() {
            let text = description.filled(&[("protocols", "tcp")]).unwrap();
            let bin = gst::parse::bin_from_description(&text, false);
            // Of a device that is not here its elements cannot be made: only what the text itself says is tested.
            if description.hardware && description.missing().next().is_some() {
                assert!(text.contains(description.missing().next().unwrap()), "{}", description.name);
                continue;
            }
            let bin = bin.unwrap_or_else(|error| panic!("{}: {error}", description.name));
            for name in description.kind.named_elements() {
                assert!(bin.by_name(name).is_some(), "{}: {name}", description.name);
            }
            for element in bin.iterate_elements().into_iter().flatten() {
                let name = element.factory().unwrap().name();
                let listed = description.requires.iter().any(|r| *r == *name) || name == "capsfilter";
                assert!(listed, "{}: `requires` lacks {name}", description.name);
            }
        }
        for codec in Codec::ALL {
            assert!(all.decoders(codec).iter().any(|d| d.check_elements().is_ok()), "{codec}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        struct Case(&'static str, &'static str);
        let cases = [
            Case("launch = 'appsrc name=in ! appsink name=out'\nlanch = 1", "unknown field `lanch`"),
            Case("launch = 'appsrc name=in ! appsink'", "name=out"),
            Case("launch = 'appsrc name=in ! a={x} ! appsink name=out'", "`{x}` is not declared"),
            Case("launch = 'appsrc name=in ! a={ ! appsink name=out'", "a single `{`"),
            Case(
                "launch = 'appsrc name=in ! appsink name=out'\nplaceholders = ['url']",
                "there are: protocols",
            ),
            Case("launch = 'appsrc name=in ! appsink name=out'\nsource = 'rtsp'", "`source` belongs"),
        ];
        for Case(text, expected) in cases {
            let error = Description::parse("x", &format!("{WHOLE}{text}")).expect_err(text);
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn an_unknown_name_lists_those_there_are_and_later_folders_win() {
        testing::init();
        let folder = tempfile::tempdir().unwrap();
        let text = format!("{WHOLE}launch = 'appsrc name=in ! appsink name=out'\nrank = 5");
        std::fs::write(folder.path().join("decode-h264.toml"), text).unwrap();
        let all = Descriptions::load(&[testing::descriptions_folder(), folder.path().to_owned()]).unwrap();
        assert_eq!(all.get("decode-h264").unwrap().about, "x");
        let error = all.get("rtsp-h246").unwrap_err().to_string();
        assert!(error.contains("rtsp-h264, rtsp-h265"), "{error}");
        assert!(Descriptions::load(&[folder.path().join("none")]).is_err());
    }

    #[test]
    fn a_missing_element_names_its_package() {
        testing::init();
        let text = format!("{WHOLE}launch = 'appsrc name=in ! appsink name=out'")
            .replace("[]", "['avdec_nonsense']");
        let fault = Description::parse("x", &text).unwrap().check_elements().unwrap_err();
        assert_eq!(fault.class, FaultClass::MissingElement);
        assert!(fault.to_string().contains("gstreamer1.0-libav"), "{fault}");
    }
}
