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

#[test]
fn numbers_that_no_network_has_are_refused_by_their_key() {
    struct Case(&'static str, &'static str);
    let cases = [
        Case("kind = 'nanodet_plus'\nreg_max = 4611686018427387904", "family.reg_max"),
        Case("kind = 'nanodet_plus'\nreg_max = 0", "family.reg_max"),
        Case("kind = 'nanodet_plus'\noffset = nan", "family.offset"),
        Case("kind = 'nanodet_plus'\nstrides = [9223372036854775807]", "family.strides"),
        Case("kind = 'yolox'\nstrides = [0]", "family.strides"),
        Case("kind = 'ssd'\nvariances = [inf, 0.2]", "family.variances[0]"),
        Case("kind = 'ssd'\nbackground = 9223372036854775807", "family.background"),
        Case("kind = 'simcc'\nsplit = 1e30", "family.split"),
    ];
    for Case(text, key) in cases {
        let family = build(text.parse().unwrap()).unwrap();
        let outputs: Vec<_> =
            family.outputs().iter().map(|name| ((*name).to_owned(), vec![1, -1, -1])).collect();
        let error = family.check(&outputs, 3, InputSize { width: 64, height: 64 }).unwrap_err();
        assert_eq!(error.output, key);
    }
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

    /// What a manifest can say of numbers, however large.
    #[test]
    fn no_numbers_of_a_table_make_a_family_panic(
        whole in prop_oneof![0usize..100, any::<usize>().prop_map(|n| n & usize::MAX >> 1), Just(1 << 62)],
        strides in proptest::collection::vec(prop_oneof![0usize..70, Just(usize::MAX >> 1)], 0..4),
        float in value(),
        columns in 0i64..80,
    ) {
        let number = |n: f32| toml::Value::Float(f64::from(n));
        let whole = toml::Value::Integer(whole as i64);
        let strides = toml::Value::Array(strides.iter().map(|n| toml::Value::Integer(*n as i64)).collect());
        let tables = [
            ("nanodet_plus", vec![("reg_max", whole.clone()), ("strides", strides.clone()), ("offset", number(float))]),
            ("yolox", vec![("strides", strides)]),
            ("ssd", vec![("background", whole), ("variances", toml::Value::Array(vec![number(float); 2]))]),
            ("simcc", vec![("split", number(float))]),
        ];
        let (input, keep) = (InputSize { width: 16, height: 8 }, Keep { min_score: 0.1, classes: vec![true; 3], nms_iou: 0.5, limit: 10 });
        for (kind, keys) in tables {
            let mut table: toml::Table = keys.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
            table.insert("kind".to_owned(), kind.into());
            let Ok(family) = build(table) else { continue };
            let shape = vec![1, 2, columns];
            let named: Vec<_> = family.outputs().iter().map(|name| ((*name).to_owned(), shape.clone())).collect();
            let _ = family.check(&named, 3, input);
            let data = vec![0.5; 2 * columns as usize];
            let outputs: Vec<_> = named.iter().map(|(name, shape)| Output { name, shape, data: &data }).collect();
            let _ = family.decode(&outputs, input, &keep);
            let _ = family.guess(&named, input);
        }
    }
}
