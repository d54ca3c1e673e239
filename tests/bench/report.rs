//! Medians, the table, the ratios.

use serde_json::{Map, Value, json};

use super::part::Measured;
use super::plan::{Subject, What};

/// Frames a second that the single cameras analyse.
const FPS: f64 = 5.0;

/// Each figure's median over the rounds.
pub(crate) fn median(rounds: &[Measured]) -> Measured {
    let of = |figure: fn(&Measured) -> f64| {
        let mut values: Vec<f64> = rounds.iter().map(figure).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    };
    Measured {
        cores: of(|m| m.cores),
        analysed: of(|m| m.analysed),
        decoded: of(|m| m.decoded),
        fairness: of(|m| m.fairness),
        latency_ms: of(|m| m.latency_ms),
        rss_mib: of(|m| m.rss_mib),
    }
}

/// One ratio: its key, what it is in words, and its value where both sides were measured.
struct Ratio(&'static str, &'static str, Option<f64>);

fn ratios(medians: &[(&Subject, Measured)]) -> Vec<Ratio> {
    let cores = |name: &str| medians.iter().find(|(s, _)| s.name == name).map(|(_, m)| m.cores);
    let ratio = |a: Option<f64>, b: Option<f64>| Some(a? / b?);
    let inferences = cores("infer_floor").map(|one| FPS * one);
    let floor = (|| Some(cores("decode_floor")? + inferences?))();
    let rest = |whole: &str| Some(cores(whole)? - inferences?);
    vec![
        Ratio("ratio_busy", "busy / (bare avdec + 5 bare inferences)", ratio(cores("busy"), floor)),
        Ratio("ratio_script", "busy / script", ratio(cores("busy"), cores("script"))),
        Ratio(
            "ratio_rest",
            "busy / script, both without the inferences",
            ratio(rest("busy"), rest("script")),
        ),
        Ratio("ratio_script_360", "busy_360 / script_360", ratio(cores("busy_360"), cores("script_360"))),
        Ratio("ratio_quiet", "quiet / always", ratio(cores("quiet"), cores("always"))),
        Ratio("ratio_quiet_cbr", "quiet_cbr / always_cbr", ratio(cores("quiet_cbr"), cores("always_cbr"))),
    ]
}

/// For people.
pub(crate) fn table(medians: &[(&Subject, Measured)]) -> String {
    let mut text = format!(
        "{:<17} {:>7} {:>10} {:>9} {:>5} {:>8} {:>7}\n",
        "", "cores", "analysed/s", "decoded/s", "fair", "ms", "RSS MiB"
    );
    let or_blank =
        |value: f64, digits: usize| if value == 0.0 { String::new() } else { format!("{value:.digits$}") };
    for (subject, m) in medians {
        let fair =
            if matches!(subject.what, What::Node { .. }) { or_blank(m.fairness, 2) } else { String::new() };
        text += &format!(
            "{:<17} {:>7} {:>10} {:>9} {fair:>5} {:>8} {:>7}   {}\n",
            subject.name,
            or_blank(m.cores, 4),
            or_blank(m.analysed, 2),
            or_blank(m.decoded, 1),
            or_blank(m.latency_ms, 0),
            or_blank(m.rss_mib, 0),
            subject.about
        );
    }
    for Ratio(_, words, value) in ratios(medians) {
        if let Some(value) = value {
            text += &format!("{value:>22.3}   {words}\n");
        }
    }
    text
}

/// For programs: DESIGN 8's keys in cores, and the many cameras by their number.
pub(crate) fn json(medians: &[(&Subject, Measured)]) -> Value {
    let mut object = Map::new();
    let mut cameras = Map::new();
    for (subject, m) in medians {
        match subject.name.strip_prefix("cameras_") {
            Some(count) => {
                let row = json!({"cores": m.cores, "analysed": m.analysed, "fairness": m.fairness, "rss_mib": m.rss_mib});
                cameras.insert(count.to_owned(), row);
            }
            None if matches!(subject.what, What::Latency(..)) => {
                object.insert(format!("{}_ms", subject.name), json!(m.latency_ms));
            }
            None => {
                object.insert(subject.name.clone(), json!(m.cores));
            }
        }
        if subject.name == "busy" {
            object.insert("rss_mib".to_owned(), json!(m.rss_mib));
        }
    }
    for Ratio(key, _, value) in ratios(medians) {
        object.insert(key.to_owned(), json!(value));
    }
    object.insert("cameras".to_owned(), Value::Object(cameras));
    Value::Object(object)
}
