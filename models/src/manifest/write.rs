//! Writing manifests: what [`Manifest::load`] reads, in the order in which people read it.
//!
//! Owns: the layout of the file. Does not know: where it is put, sessions.

use std::fmt::Write as _;

use serde::Serialize;
use toml::Value;
use vedette_core::{Class, Role};

use super::{Card, Element, Fit, FormInput, Golden, InputSpec, Layout, Manifest, Upstream};
use crate::provider::Form;

/// A manifest that is still being made.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The file's stem and the name in the configuration.
    pub name: String,
    /// One line for people.
    pub about: String,
    /// What it is used for.
    pub role: Role,
    /// SPDX expression; empty: not known.
    pub licence: String,
    /// In the order of the network's outputs.
    pub labels: Vec<Class>,
    /// The `[family]` table, `kind` included.
    pub family: toml::Table,
    /// What the network takes.
    pub input: InputSpec,
    /// Its files.
    pub forms: Vec<DraftForm>,
    /// Where it comes from.
    pub upstream: Option<Upstream>,
    /// One input and what must come out of it.
    pub golden: Option<Golden>,
}

/// One file of a [`Draft`].
#[derive(Clone, Debug)]
pub struct DraftForm {
    /// Which form it is.
    pub form: Form,
    /// File name.
    pub file: String,
    /// SHA-256 of the file, lower-case hex.
    pub sha256: String,
    /// How it was made.
    pub made: String,
    /// Where it takes something else than [`Draft::input`] says.
    pub input: Option<FormInput>,
    /// What was measured of it.
    pub card: Option<Card>,
}

impl Manifest {
    /// The same as a draft, to which forms can be added.
    pub fn draft(&self) -> Draft {
        let forms = self.forms().map(|(form, file)| DraftForm {
            form,
            file: file.file.clone(),
            sha256: file.sha256.clone(),
            made: file.made.clone(),
            input: file.input.clone(),
            card: self.card(form).cloned(),
        });
        Draft {
            name: self.name.clone(),
            about: self.text.about.clone(),
            role: self.role(),
            licence: self.text.licence.clone(),
            labels: self.text.labels.clone(),
            family: self.table.clone(),
            input: self.text.input.clone(),
            forms: forms.collect(),
            upstream: self.text.upstream.clone(),
            golden: self.text.golden.clone(),
        }
    }
}

impl Draft {
    /// The file's text.
    ///
    /// # Errors
    /// A value that TOML has no words for (a key of the family that is no TOML value: not from [`Manifest::draft`]).
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        let mut text = String::new();
        self.head(&mut text);
        let mut family = String::from("\n[family]\n");
        line(&mut family, "kind", &self.family.get("kind").cloned().unwrap_or_else(|| "".into()));
        self.family.iter().filter(|(key, _)| *key != "kind").for_each(|(k, v)| line(&mut family, k, v));
        text += &family;
        input(&mut text, &self.input);
        for form in &self.forms {
            form_file(&mut text, form);
        }
        if let Some(upstream) = &self.upstream {
            text += &table("upstream", upstream)?;
        }
        for form in &self.forms {
            if let Some(card) = &form.card {
                text += &table(&format!("card.{}", form.form), card)?;
            }
        }
        if let Some(golden) = &self.golden {
            text += "\n# Byte i of the input is the top byte of the 32-bit product i * multiplier; the means are those \
                     of all values of an\n# output. Tells a broken file, runtime or processor from a working one.";
            text += &table("golden", golden)?;
        }
        Ok(text)
    }

    fn head(&self, text: &mut String) {
        line(text, "about", &self.about.as_str().into());
        line(text, "role", &Value::try_from(self.role).unwrap_or_else(|_| "detector".into()));
        if self.licence.is_empty() {
            *text += "# licence = \"SPDX expression\"   # not in the file: whoever trained it says\n";
        } else {
            line(text, "licence", &self.licence.as_str().into());
        }
        if self.labels.is_empty() {
            return;
        }
        *text += "\n# In the order of the network's outputs.\nlabels = [";
        let mut width = usize::MAX;
        for label in &self.labels {
            let word = format!("{}, ", Value::from(label.as_str()));
            if width.saturating_add(word.len()) > 110 {
                *text = text.trim_end_matches(' ').to_owned() + "\n  ";
                width = 2;
            }
            width += word.len();
            *text += &word;
        }
        *text = text.trim_end_matches(' ').to_owned() + "\n]\n";
    }
}

fn line(text: &mut String, key: &str, value: &Value) {
    // A key of a family is a Rust name, and needs no quotes. Writing to a String cannot fail.
    let _ = writeln!(text, "{key} = {value}");
}

fn table(name: &str, value: &impl Serialize) -> Result<String, toml::ser::Error> {
    let mut inner = toml::Table::try_from(value)?;
    // Inner tables after the plain keys.
    let tables: Vec<_> =
        inner.iter().filter(|(_, v)| v.is_table()).map(|(k, v)| (k.clone(), v.clone())).collect();
    tables.iter().for_each(|(key, _)| drop(inner.remove(key)));
    let mut text = format!("\n[{name}]\n{inner}");
    for (key, value) in tables {
        if let Value::Table(table) = value {
            let _ = write!(text, "\n[{name}.{key}]\n{table}");
        }
    }
    Ok(text)
}

/// The shortest decimals that mean this very float.
fn float(value: f32) -> String {
    format!("{value:?}")
}

fn floats(values: [f32; 3]) -> String {
    format!("[{}]", values.map(float).join(", "))
}

fn axes(layout: Layout, element: Element) -> String {
    let layout = match layout {
        Layout::Nhwc => "nhwc",
        Layout::Nchw => "nchw",
    };
    let element = match element {
        Element::U8 => "u8",
        Element::I8 => "i8",
        Element::I32 => "i32",
        Element::F32 => "f32",
    };
    format!("layout = \"{layout}\"\ntype = \"{element}\"\n")
}

fn input(text: &mut String, input: &InputSpec) {
    *text += "\n[input]\n";
    if let Some(name) = &input.name {
        line(text, "name", &name.as_str().into());
    }
    *text += &axes(input.layout, input.element);
    let color = Value::try_from(input.color).unwrap_or_else(|_| "rgb".into());
    let InputSpec { width, height, pad, .. } = input;
    let _ = writeln!(text, "width = {width}\nheight = {height}\ncolor = {color}\npad = {pad}");
    if input.fit != Fit::default() {
        line(text, "fit", &Value::try_from(input.fit).unwrap_or_else(|_| "letterbox".into()));
    }
    if input.mean != [0.0; 3] || input.std != [1.0; 3] {
        let _ = writeln!(
            text,
            "mean = {}   # of bytes 0..255, in the order of color\nstd = {}",
            floats(input.mean),
            floats(input.std)
        );
    }
    if let Some(scale) = input.scale {
        let _ = writeln!(text, "scale = {}\nzero_point = {}", float(scale), input.zero_point);
    }
    if !input.normalisation.is_empty() {
        line(text, "normalisation", &input.normalisation.as_str().into());
    }
}

fn form_file(text: &mut String, form: &DraftForm) {
    let _ = writeln!(text, "\n[form.{}]", form.form);
    line(text, "file", &form.file.as_str().into());
    line(text, "sha256", &form.sha256.as_str().into());
    if !form.made.is_empty() {
        line(text, "made", &form.made.as_str().into());
    }
    let Some(input) = &form.input else { return };
    let _ = writeln!(text, "\n[form.{}.input]   # the first layers are the pre-processor's work", form.form);
    *text += &axes(input.layout, input.element);
    if let Some(color) = input.color {
        line(text, "color", &Value::try_from(color).unwrap_or_else(|_| "rgb".into()));
    }
    let _ = writeln!(text, "mean = {}\nstd = {}", floats(input.mean), floats(input.std));
    if let Some(scale) = input.scale {
        let _ = writeln!(text, "scale = {}\nzero_point = {}", float(scale), input.zero_point);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::ColorOrder;
    use proptest::prelude::*;

    fn shipped(name: &str) -> Manifest {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests");
        Manifest::load(&[root], name).unwrap()
    }

    fn again(draft: &Draft) -> Manifest {
        let folder = tempfile::tempdir().unwrap();
        let text = draft.to_toml().unwrap();
        std::fs::write(folder.path().join(format!("{}.toml", draft.name)), &text).unwrap();
        Manifest::load(&[folder.path().to_owned()], &draft.name).unwrap_or_else(|e| panic!("{e}\n{text}"))
    }

    #[test]
    fn what_is_written_is_read_back_for_every_shipped_manifest() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests");
        let names = Manifest::list(&[root]);
        assert!(names.len() > 1);
        for (name, _) in names {
            let draft = shipped(&name).draft();
            let read = again(&draft).draft();
            assert_eq!(format!("{draft:?}"), format!("{read:?}"));
        }
    }

    proptest! {
        #[test]
        fn any_input_is_read_back_exactly(
            mean in prop::array::uniform3(-1e4f32..1e4),
            std in prop::array::uniform3(1e-6f32..1e4),
            scale in prop::option::of(1e-9f32..1e3),
            zero_point in -128i32..128,
            about in "\\PC{0,40}",
        ) {
            let mut draft = shipped("nanodet-g-416").draft();
            draft.about = about;
            draft.input.mean = mean;
            draft.input.std = std;
            draft.input.color = ColorOrder::Rgb;
            draft.input.fit = crate::manifest::Fit::Stretch;
            draft.forms[0].input = Some(FormInput {
                layout: Layout::Nchw, element: Element::I8, color: Some(ColorOrder::Bgr), mean, std, scale,
                zero_point: if scale.is_some() { zero_point } else { 0 },
            });
            prop_assert_eq!(format!("{:?}", again(&draft).draft()), format!("{draft:?}"));
        }
    }
}
