//! The scene of a frame as ONVIF's JSON metadata: `onvif-mj/VideoAnalytics/<camera>/vedette` and
//! `{"Frame":[{"@UtcTime":…,"@Source":…,"Object":[…]}]}`.
//!
//! Owns: that form, and ONVIF's coordinates: -1..1 from left to right and from bottom to top, so that no transformation
//! needs to be told. Does not know: when it is sent.

use serde_json::{Value, json};

use super::{ANALYTICS, class_type};
use crate::wire::vedette::rounded;
use crate::wire::{Message, SceneObject, SceneUpdate};

/// See the module.
pub(super) fn message(scene: &SceneUpdate) -> Message {
    let SceneUpdate { camera, at, objects } = scene;
    let frame = json!({
        "@UtcTime": format!("{at:.3}"),
        "@Source": camera,
        "Object": objects.iter().map(object).collect::<Vec<_>>(),
    });
    let payload = json!({ "Frame": [frame] }).to_string().into_bytes();
    Message::passing(format!("onvif-mj/VideoAnalytics/{camera}/{ANALYTICS}"), payload)
}

fn object(object: &SceneObject) -> Value {
    let SceneObject { track, class, score, bbox } = object;
    let number = |value: f32| rounded(f64::from(value), 4);
    let (across, up) = (|x: f32| number(2.0 * x - 1.0), |y: f32| number(1.0 - 2.0 * y));
    json!({
        "@ObjectId": track.0,
        "Appearance": {
            "Shape": {
                "BoundingBox": {
                    "@left": across(bbox.x0),
                    "@top": up(bbox.y0),
                    "@right": across(bbox.x1),
                    "@bottom": up(bbox.y1),
                },
                "CenterOfGravity": {
                    "@x": across((bbox.x0 + bbox.x1) / 2.0),
                    "@y": up((bbox.y0 + bbox.y1) / 2.0),
                },
            },
            "Class": {
                "Type": [{ "@Likelihood": rounded(f64::from(*score), 3), "#text": class_type(class.as_str()) }],
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use vedette_core::{BBox, Class, Name, TrackId};

    use super::*;
    use crate::wire::{Dialect as _, Interest, Place, Update};

    fn scene() -> SceneUpdate {
        let bbox = BBox { x0: 0.4, y0: 0.5, x1: 0.5, y1: 0.8 };
        let person = SceneObject { track: TrackId(17), class: Class::new("person"), score: 0.83, bbox };
        let at = "2026-11-24T02:35:42.12Z".parse().unwrap();
        SceneUpdate { camera: Name::new("gate").unwrap(), at, objects: vec![person] }
    }

    /// The shape of the specification's example, in coordinates that need no transformation.
    #[test]
    fn a_scene_is_a_frame_with_its_objects() {
        let message = message(&scene());
        assert_eq!(message.topic, "onvif-mj/VideoAnalytics/gate/vedette");
        assert!(!message.retained);
        assert_eq!(
            String::from_utf8(message.payload).unwrap(),
            include_str!("../../../../tests/golden/wire/onvif.metadata.json").trim_end()
        );
    }

    #[test]
    fn it_is_told_where_it_is_asked_for_and_of_cameras_that_pass() {
        let place = Place { prefix: "vedette".to_owned(), node: Name::new("box").unwrap() };
        let told = |metadata, cameras: Option<&str>| {
            let cameras = cameras.map(|camera| vec![Name::new(camera).unwrap()]);
            let dialect =
                super::super::Onvif { metadata, interest: Interest { cameras, ..Interest::default() } };
            dialect.update(&place, &Update::Scene(scene())).len()
        };
        assert_eq!((told(false, None), told(true, None)), (0, 1));
        assert_eq!((told(true, Some("gate")), told(true, Some("yard"))), (1, 0));
    }
}
