//! `vedette model import FILE.onnx`: a user's own network becomes a model that the configuration can name.
//!
//! Owns: its arguments, and what is said afterwards. Does not know: what a graph says; `vedette_models::import` does.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;
use rustix::fs::{Access, access};
use serde_json::json;
use vedette_core::Class;
use vedette_models::{
    ColorOrder, Fit, ImportError, ImportOptions, Imported, Manifest, Runtime, import, install, read_model,
};

use crate::cli::{Global, say, say_json};
use crate::exit::{Failure, Outcome};
use crate::node::{OWN_MODELS, runtime_folders};

#[derive(Args, Debug)]
pub(in crate::cli) struct Arguments {
    /// The network: one picture in, the outputs of a known family out
    #[arg(value_name = "FILE.onnx")]
    file: PathBuf,
    #[command(flatten)]
    pub(super) about: About,
    /// Folder for file and manifest [default: `models` in the state folder]
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
    /// Replace a model of that name
    #[arg(long)]
    force: bool,
}

/// What the file does not say.
#[derive(Args, Debug)]
pub(super) struct About {
    /// Its name in the configuration [default: the file's]
    #[arg(long)]
    pub(super) name: Option<String>,
    /// Its family [default: the one that its outputs look like]
    #[arg(long, value_name = "KIND")]
    family: Option<String>,
    /// A file with a label a line, in the order of the outputs [default: COCO's, where their number fits]
    #[arg(long, value_name = "FILE|coco")]
    labels: Option<PathBuf>,
    /// Size of its picture, where the file leaves it open
    #[arg(long, value_name = "WIDTHxHEIGHT")]
    size: Option<Size>,
    /// Order of its channels [default: its family's]
    #[arg(long, value_name = "rgb|bgr", value_parser = color)]
    color: Option<ColorOrder>,
    /// Subtracted from bytes 0..255, one number or one a channel, in that order [default: its family's]
    #[arg(long, value_name = "A,B,C", allow_hyphen_values = true)]
    mean: Option<Three>,
    /// What they are divided by then [default: its family's]
    #[arg(long, value_name = "A,B,C")]
    std: Option<Three>,
    /// How pictures of other proportions are brought to its size [default: its family's]
    #[arg(long, value_name = "letterbox|stretch", value_parser = fit)]
    fit: Option<Fit>,
    /// SPDX expression of its licence, for the manifest
    #[arg(long, value_name = "SPDX")]
    licence: Option<String>,
}

#[derive(Clone, Copy, Debug)]
struct Size(usize, usize);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let sides = text.split_once('x').and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)));
        match sides {
            Some((w @ 1..=4096, h @ 1..=4096)) => Ok(Self(w, h)),
            _ => Err(format!("`{text}` is no size: write WIDTHxHEIGHT, such as 640x640")),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Three([f32; 3]);

impl FromStr for Three {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers: Result<Vec<f32>, _> = text.split(',').map(|word| word.trim().parse()).collect();
        match numbers.as_deref() {
            Ok([one]) => Ok(Self([*one; 3])),
            Ok([a, b, c]) => Ok(Self([*a, *b, *c])),
            _ => Err(format!("`{text}` is neither a number nor three: write 123.675,116.28,103.53")),
        }
    }
}

fn color(text: &str) -> Result<ColorOrder, String> {
    match text {
        "rgb" => Ok(ColorOrder::Rgb),
        "bgr" => Ok(ColorOrder::Bgr),
        _ => Err(format!("`{text}` is neither rgb nor bgr")),
    }
}

fn fit(text: &str) -> Result<Fit, String> {
    match text {
        "letterbox" => Ok(Fit::Letterbox),
        "stretch" => Ok(Fit::Stretch),
        _ => Err(format!("`{text}` is neither letterbox nor stretch")),
    }
}

impl About {
    fn options(&self) -> Result<ImportOptions, Failure> {
        let labels = match &self.labels {
            Some(file) if file != Path::new("coco") => Some(read_labels(file)?),
            _ => None,
        };
        Ok(ImportOptions {
            name: self.name.clone().unwrap_or_default(),
            family: self.family.clone(),
            labels,
            size: self.size.map(|Size(width, height)| (width, height)),
            color: self.color,
            mean: self.mean.map(|Three(mean)| mean),
            std: self.std.map(|Three(std)| std),
            fit: self.fit,
            licence: self.licence.clone().unwrap_or_default(),
        })
    }
}

fn read_labels(file: &Path) -> Result<Vec<Class>, Failure> {
    let text =
        std::fs::read_to_string(file).map_err(|e| Failure::failed(format!("{}: {e}", file.display())))?;
    Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(Class::new).collect())
}

/// A network's file and what it says, not yet written anywhere.
pub(super) fn read(
    runtime: &'static Runtime,
    file: &Path,
    about: &About,
) -> Result<(Vec<u8>, Imported), Failure> {
    let bytes = read_model(file).map_err(Failure::failed)?;
    let name = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy();
    let imported = import(runtime, &name, &bytes, &about.options()?).map_err(Failure::failed)?;
    Ok((bytes, imported))
}

/// Where models of one's own go.
pub(super) fn folder(global: &Global, into: Option<&Path>) -> PathBuf {
    into.map_or_else(|| global.state().join(OWN_MODELS), Path::to_owned)
}

/// A name that a model of the program has would hide that one.
pub(super) fn check_name(global: &Global, name: &str, force: bool) -> Outcome {
    let shipped = Manifest::list(&[global.share()?.manifests()]);
    match shipped.iter().find(|(known, _)| known == name && !force) {
        Some((_, path)) => Err(Failure::failed(ImportError::Exists(path.display().to_string()))),
        None => Ok(()),
    }
}

/// That files of these names can be put into `folder`, which need not be there yet.
pub(super) fn check_place(folder: &Path, mut names: impl Iterator<Item = String>, force: bool) -> Outcome {
    if let Some(there) = names.find(|name| !force && folder.join(name).exists()) {
        let there = folder.join(there).display().to_string();
        return Err(Failure::failed(ImportError::Exists(there)));
    }
    let nearest = folder.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."));
    access(nearest, Access::WRITE_OK | Access::EXEC_OK).map_err(|error| {
        let path = nearest.display().to_string();
        Failure::failed(ImportError::Write { path, source: error.into() })
    })
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> Outcome {
    let runtime = Runtime::load(None, &runtime_folders()).map_err(Failure::unavailable)?;
    let (bytes, Imported { draft, findings }) = read(runtime, &arguments.file, &arguments.about)?;
    check_name(global, &draft.name, arguments.force)?;
    let folder = folder(global, arguments.into.as_deref());
    let files: Vec<_> = draft.forms.iter().map(|form| (form.file.clone(), bytes.clone())).collect();
    let made = install(runtime, draft, &files, &folder, arguments.force).map_err(Failure::failed)?;
    if global.json {
        return say_json(&json!({
            "model": made.name(), "manifest": made.path(), "role": made.role(), "findings": findings,
        }));
    }
    findings.iter().try_for_each(say)?;
    say(format!("opened and run once: it is what the manifest says\nwritten: {}", made.path().display()))?;
    let name = made.name();
    say(format!("next: vedette model quantize --model {name} --from-cameras 30m"))?;
    use_it(&made, arguments.into.is_some())
}

/// How the configuration names a new model.
pub(super) fn use_it(made: &Manifest, elsewhere: bool) -> Outcome {
    let name = made.name();
    if elsewhere {
        say(format!(
            "to use it, copy {name}.* into `models` of the service's state folder, and in the configuration:"
        ))?;
    } else {
        say("to use it, in the configuration:")?;
    }
    say(format!("  [inference]\n  model = \"{name}\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_triples_are_what_people_write() {
        assert!(matches!("640x480".parse(), Ok(Size(640, 480))));
        for wrong in ["640", "0x4", "-1x4", "4x99999", "x"] {
            assert!(wrong.parse::<Size>().is_err(), "{wrong}");
        }
        assert_eq!("255".parse::<Three>().unwrap().0, [255.0; 3]);
        assert_eq!("1, 2,3".parse::<Three>().unwrap().0, [1.0, 2.0, 3.0]);
        assert!("1,2".parse::<Three>().is_err() && "".parse::<Three>().is_err());
    }
}
