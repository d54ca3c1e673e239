//! Every family at once: tables, guesses by shape, and tensors that are not as they should be.

use proptest::prelude::*;

use super::*;

#[test]
fn a_table_says_what_is_wrong_with_it() {
    struct Case(&'static str, &'static str);
    let cases = [
        Case("", "family.kind: missing; there are: nanodet"),
        Case("kind = 'yolo99'", "family.kind: no kind `yolo99`; there are: nanodet"),
        Case("kind = 'nanodet'\nbox = 'b'", "family: unknown field `box`"),
    ];
    for Case(text, message) in cases {
        let error = build(text.parse().unwrap()).unwrap_err().to_string();
        assert!(error.starts_with(message), "{text:?}: {error}");
    }
    assert_eq!(build("kind = 'nanodet'".parse().unwrap()).unwrap().outputs(), ["boxes", "scores"]);
}

fn value() -> impl Strategy<Value = f32> {
    let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN, f32::MIN_POSITIVE, -0.0];
    prop_oneof![3 => -2f32..40.0, 1 => proptest::sample::select(odd.to_vec())]
}

fn sound(decoded: &Decoded, limit: usize) -> bool {
    match decoded {
        Decoded::Boxes(boxes) => {
            boxes.len() <= limit
                && boxes.iter().all(|b| b.xyxy.iter().all(|v| v.is_finite()) && b.score.is_finite())
        }
        Decoded::Pose(points) => {
            points.iter().all(|p| p.x.is_finite() && p.y.is_finite() && (0.0..=1.0).contains(&p.score))
        }
        Decoded::Scores(scores) => scores.iter().all(|s| (0.0..=1.0).contains(s)),
        Decoded::Features(maps) => maps
            .iter()
            .all(|m| m.data.len() == m.channels * m.rows * m.columns && m.data.iter().all(|v| v.is_finite())),
    }
}

proptest! {
    /// Shapes that do not fit each other, lengths that do not fit shapes, values that are none.
    #[test]
    fn no_tensors_make_a_family_panic(
        tensors in proptest::collection::vec(
            (proptest::collection::vec(-1i64..9, 0..5), proptest::collection::vec(value(), 0..200), any::<bool>()), 0..4),
        side in 0usize..40,
    ) {
        let keep = Keep { min_score: 0.1, classes: vec![true; 3], nms_iou: 0.5, limit: 10 };
        let tensors: Vec<_> = tensors.into_iter().map(|(shape, mut data, honest)| {
            let length = shape.iter().map(|a| usize::try_from(*a).unwrap_or(0)).product::<usize>();
            if honest { data = data.iter().copied().cycle().take(if data.is_empty() { 0 } else { length }).collect(); }
            (shape, data)
        }).collect();
        let outputs: Vec<_> =
            tensors.iter().map(|(shape, data)| Output { name: "any", shape, data }).collect();
        let input = InputSize { width: side, height: side };
        for kind in ALL {
            if let Ok(decoded) = by_default(kind).unwrap().decode(&outputs, input, &keep) {
                prop_assert!(sound(&decoded, keep.limit), "{}: {decoded:?}", kind.name);
            }
        }
    }
}
