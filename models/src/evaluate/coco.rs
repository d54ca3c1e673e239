//! COCO annotations: the few keys that boxes need.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use vedette_core::BBox;

use super::average_precision::Truth;
use super::{CocoSet, EvalError};

/// A file of annotations of one kind.
#[derive(Deserialize)]
pub(super) struct File<A> {
    pub images: Vec<Image>,
    pub annotations: Vec<A>,
    categories: Vec<Category>,
}

#[derive(Deserialize)]
pub(super) struct Image {
    pub id: u64,
    pub file_name: String,
}

#[derive(Deserialize)]
struct Annotation {
    image_id: u64,
    category_id: u32,
    /// Left, top, width, height in pixels.
    bbox: [f32; 4],
    #[serde(default)]
    iscrowd: u8,
}

#[derive(Deserialize)]
struct Category {
    id: u32,
    name: String,
}

/// One image with what is on it.
pub(super) struct Annotated {
    pub path: PathBuf,
    boxes: Vec<(String, [f32; 4], bool)>,
}

impl Annotated {
    /// Its boxes, 0..1 of a picture of `size` pixels.
    pub(super) fn truths(&self, (width, height): (f32, f32)) -> Vec<Truth<'_>> {
        let share = |[x, y, w, h]: [f32; 4]| BBox {
            x0: x / width,
            y0: y / height,
            x1: (x + w) / width,
            y1: (y + h) / height,
        };
        let boxes = self.boxes.iter();
        boxes.map(|(class, pixels, crowd)| Truth { class, bbox: share(*pixels), crowd: *crowd }).collect()
    }
}

/// Reads a file of annotations.
pub(super) fn parse<A: DeserializeOwned>(path: &Path) -> Result<File<A>, EvalError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| EvalError::Read { path: path.to_owned(), source })?;
    serde_json::from_str(&text).map_err(|source| EvalError::Annotations { path: path.to_owned(), source })
}

/// The images of a set. Classes go by name: COCO's ids 1..90 have gaps, models count 0..79.
pub(super) fn read(set: &CocoSet) -> Result<Vec<Annotated>, EvalError> {
    let file: File<Annotation> = parse(&set.annotations)?;
    let names: BTreeMap<u32, String> = file.categories.into_iter().map(|c| (c.id, c.name)).collect();
    let mut boxes: BTreeMap<u64, Vec<_>> = BTreeMap::new();
    for annotation in file.annotations {
        if let Some(name) = names.get(&annotation.category_id) {
            let crowd = annotation.iscrowd != 0;
            boxes.entry(annotation.image_id).or_default().push((name.clone(), annotation.bbox, crowd));
        }
    }
    let annotated = file.images.into_iter().map(|image| Annotated {
        path: set.images.join(image.file_name),
        boxes: boxes.remove(&image.id).unwrap_or_default(),
    });
    Ok(annotated.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_are_found_by_image_and_named() {
        let folder = tempfile::tempdir().unwrap();
        let annotations = folder.path().join("a.json");
        let text = r#"{"info": 1, "images": [{"id": 7, "file_name": "7.jpg", "height": 9}, {"id": 8, "file_name": "8.jpg"}],
            "annotations": [{"image_id": 7, "category_id": 18, "bbox": [10, 20, 30, 40], "area": 3},
                            {"image_id": 7, "category_id": 18, "bbox": [0, 0, 9, 9], "iscrowd": 1}],
            "categories": [{"id": 18, "name": "dog"}]}"#;
        std::fs::write(&annotations, text).unwrap();
        let set = CocoSet { images: "images".into(), annotations: annotations.clone() };
        let found = read(&set).unwrap();
        assert_eq!(found[0].path, PathBuf::from("images/7.jpg"));
        let truths = found[0].truths((100.0, 200.0));
        assert_eq!((truths[0].class, truths[0].bbox), ("dog", BBox::from([0.1, 0.1, 0.4, 0.3])));
        assert!(truths[1].crowd && found[1].truths((1.0, 1.0)).is_empty());

        std::fs::write(&annotations, "{\"images\": 3}").unwrap();
        let error = read(&set).err().unwrap().to_string();
        assert!(error.contains("a.json: invalid type: integer `3`"), "{error}");
    }
}
