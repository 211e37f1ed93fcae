use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

const OWN: &str = "# HELP samovar_workers Live workers\n# TYPE samovar_workers gauge\nsamovar_workers{model=\"a\"} 1\n";

fn told<'a>(model: &'a str, text: &'a str) -> Told<'a> {
    Told { model, version: "1", instance: 0, text }
}

/// What stands behind the engine's own text, and how many samples were lost for what.
fn merged(workers: &[Told<'_>]) -> (String, Vec<(usize, Reason, u64)>) {
    let page = merge(OWN, workers);
    check_page(&page.text);
    let text = page.text.strip_prefix(OWN).unwrap().to_owned();
    (text, page.losses.into_iter().map(|loss| (loss.worker, loss.reason, loss.samples)).collect())
}

#[test]
fn families_stand_together_with_one_help_and_one_type() {
    let text = "# HELP pages_total Pages\\nread\n# TYPE pages_total counter\npages_total{kind=\"x\"} 2.0\n\
                # HELP pages_created Pages\n# TYPE pages_created gauge\npages_created{kind=\"x\"} 1.7e+09\n";
    let second = Told { instance: 1, ..told("a", text) };
    let (text, losses) = merged(&[told("a", text), second, told("b", text)]);
    let ours = |model: &str, instance: usize| format!("model=\"{model}\",version=\"1\",instance=\"{instance}\"");
    let lines = |name: &str, value: &str| {
        [("a", 0), ("a", 1), ("b", 0)]
            .map(|(model, instance)| format!("{name}{{{},kind=\"x\"}} {value}\n", ours(model, instance)))
            .concat()
    };
    let wanted = format!(
        "# HELP pages_created Pages\n# TYPE pages_created gauge\n{}\
         # HELP pages_total Pages\\nread\n# TYPE pages_total counter\n{}",
        lines("pages_created", "1.7e+09"),
        lines("pages_total", "2.0")
    );
    assert_eq!((text, losses), (wanted, vec![]));
}

#[test]
fn histograms_and_summaries_keep_their_parts() {
    let text = "# TYPE lat histogram\nlat_bucket{le=\"0.5\"} 1\nlat_bucket{le=\"+Inf\"} 2\nlat_count 2\nlat_sum 1.5\n\
                # TYPE size summary\nsize{quantile=\"0.5\"} 4\nsize_count 2\nsize_sum 8\n";
    let (text, losses) = merged(&[told("a", text)]);
    let ours = "model=\"a\",version=\"1\",instance=\"0\"";
    let wanted = format!(
        "# TYPE lat histogram\nlat_bucket{{{ours},le=\"0.5\"}} 1\nlat_bucket{{{ours},le=\"+Inf\"}} 2\n\
         lat_count{{{ours}}} 2\nlat_sum{{{ours}}} 1.5\n\
         # TYPE size summary\nsize{{{ours},quantile=\"0.5\"}} 4\nsize_count{{{ours}}} 2\nsize_sum{{{ours}}} 8\n"
    );
    assert_eq!((text, losses), (wanted, vec![]));
}

#[test]
fn labels_of_user_code_give_way_to_ours() {
    let text = "x{exported_model=\"e\",model=\"m\\\"\\\\\\n\",version=\"é}\"} 1 1700000000000\n";
    let (text, losses) = merged(&[Told { model: "a\"b", version: "1\\2\n", instance: 3, text }]);
    let wanted = "# TYPE x untyped\nx{model=\"a\\\"b\",version=\"1\\\\2\\n\",instance=\"3\",exported_model=\"e\",\
                  exported_exported_model=\"m\\\"\\\\\\n\",exported_version=\"é}\"} 1 1700000000000\n";
    assert_eq!((text.as_str(), losses), (wanted, vec![]));
}

#[test]
fn names_of_the_engine_are_refused() {
    for text in [
        "samovar_workers 1\n",
        "samovar_mine 1\n",
        "# TYPE samovar histogram\nsamovar_bucket{le=\"1\"} 1\n",
        "# TYPE samovar summary\nsamovar{quantile=\"1\"} 1\n",
    ] {
        assert_eq!(merged(&[told("a", text)]), (String::new(), vec![(0, Reason::Reserved, 1)]), "{text}");
    }
    assert_eq!(merged(&[told("a", "samovar 1\n")]).1, vec![]);
    let page = merge("# TYPE nv_x gauge\nnv_x 1\n", &[told("a", "nv_x 2\n")]);
    assert_eq!(page.losses[0].reason, Reason::Reserved);
}

#[test]
fn a_family_of_another_type_is_left_out() {
    for (first, second) in [
        ("# TYPE x gauge\nx 1\n", "# TYPE x counter\nx 1\n"),
        ("# TYPE x gauge\nx 1\n", "x 1\n"),
        ("# TYPE x histogram\nx_sum 1\n", "# TYPE x_sum gauge\nx_sum 1\n"),
        ("# TYPE x histogram\nx_sum 1\n", "x_sum 1\n"),
        ("# TYPE x_count gauge\nx_count 1\n", "# TYPE x summary\nx_sum 1\n"),
    ] {
        let (text, losses) = merged(&[told("a", first), told("b", second)]);
        assert_eq!(text, merged(&[told("a", first)]).0);
        assert_eq!(losses, [(1, Reason::TypeConflict, 1)], "{second}");
    }
    let text = "# TYPE x histogram\nx_sum 1\n# TYPE x_sum gauge\n"; // one worker with a clash of its own
    assert_eq!(merged(&[told("a", text)]).1, vec![]);
}

#[test]
fn malformed_lines_and_repeated_series_are_left_out() {
    for line in [
        "x",
        "x ",
        " x 1",
        "x  1",
        "x 1 ",
        "x 1\r",
        "x one",
        "x 1e999",
        "x inf",
        "x 1 2 3",
        "x 1 2.5",
        "x{ 1",
        "x{} 1}",
        "x{a} 1",
        "x{a=b} 1",
        "x{a=\"b} 1",
        "x{a=\"\\t\"} 1",
        "x{a=\"b\"}1",
        "x{a=\"b\" c=\"d\"} 1",
        "x{a=\"b\",a=\"c\"} 1",
        "x{,} 1",
        "x{__name__=\"y\"} 1",
        "x{a:b=\"c\"} 1",
        "{\"x.y\"} 1",
        "1x 1",
        "x.y 1",
        "é 1",
    ] {
        let text = format!("{line}\nok 1");
        let (text, losses) = merged(&[told("a", &text)]);
        assert_eq!(text, merged(&[told("a", "ok 1\n")]).0, "{line}");
        assert_eq!(losses, [(0, Reason::Malformed, 1)], "{line}");
    }
    let bounds = "# TYPE x histogram\nx_bucket{le=\"low\"} 1\n# TYPE y summary\ny{quantile=\"\"} 1\n";
    assert_eq!(merged(&[told("a", bounds)]).1, [(0, Reason::Malformed, 2)]);
    assert_eq!(merged(&[told("a", "x 1\nx 2\nx{a=\"b\"} 1\n")]).1, [(0, Reason::Duplicate, 1)]);
    let crowd: String = (0..65).map(|label| format!("l{label}=\"\",")).collect();
    assert_eq!(merged(&[told("a", &format!("x{{{crowd}}} 1"))]).1, [(0, Reason::Malformed, 1)]);
}

#[test]
fn comments_that_say_nothing_are_no_loss() {
    for comment in ["#", "# ", "# EOF", "# TYPE x", "# TYPE x gadget", "# TYPE x.y gauge", "# HELP x \\t", "#x", ""] {
        let (text, losses) = merged(&[told("a", &format!("{comment}\nx 1\n"))]);
        assert_eq!((text, losses), merged(&[told("a", "x 1\n")]), "{comment}");
    }
}

#[test]
fn what_one_worker_tells_is_bounded() {
    let many: String = (0..MAX_SAMPLES + 5).map(|n| format!("x{{n=\"{n}\"}} 1\n")).collect();
    let (text, losses) = merged(&[told("a", &many), told("b", "x 1\n")]);
    assert_eq!(text.lines().count(), 1 + MAX_SAMPLES + 1);
    assert_eq!(losses, [(0, Reason::Limit, 5)]);

    let long = format!("{}\nok 1\n", "# é".repeat(400_000));
    assert_eq!(merged(&[told("a", &long)]), (String::new(), vec![(0, Reason::Limit, 1)]));
    let comment = format!("ok 1\n# {}", "x".repeat(MAX_TEXT_BYTES));
    let (text, losses) = merged(&[told("a", &comment)]);
    assert_eq!((text, losses), (merged(&[told("a", "ok 1\n")]).0, vec![(0, Reason::Limit, 1)]));
}

#[test]
fn the_first_of_each_loss_is_named() {
    let page = merge("own 1", &[told("a", "bad\nsamovar_x 1\nworse\n")]);
    let first: Vec<_> = page.losses.iter().map(|loss| (loss.samples, loss.first.as_str())).collect();
    assert_eq!(first, [(2, "bad"), (1, "samovar_x")]);
    assert_eq!(page.text, "own 1\n");
}

/// Fails unless every line is a comment or a sample, families are whole, and no series stands there twice.
fn check_page(text: &str) {
    let (mut families, mut series, mut family) = (HashSet::new(), HashSet::new(), "");
    assert!(text.is_empty() || text.ends_with('\n'));
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.split(' ');
            let (keyword, name) = (words.next().unwrap(), words.next().unwrap());
            assert!(families.insert((keyword, name)), "twice: {line}");
            assert!(keyword == "TYPE" || !families.contains(&("TYPE", name)), "HELP behind TYPE: {line}");
            family = name;
        } else {
            let (name, value) = check_sample(line);
            assert!(name.starts_with(family) && families.contains(&("TYPE", family)), "strange to {family}: {line}");
            assert!(series.insert(line.strip_suffix(value).unwrap()), "twice: {line}");
        }
    }
}

/// The name and the value of a sample; fails on a line that is none. Written apart from the parser under test.
fn check_sample(line: &str) -> (&str, &str) {
    let (name, rest) = line.split_once('{').unwrap_or_else(|| panic!("no labels: {line:?}"));
    let is_word = |word: &str| word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':');
    assert!(is_word(name) && name.starts_with(|c: char| !c.is_ascii_digit()), "{line:?}");
    let mut rest = rest.chars();
    let mut names = HashSet::new();
    loop {
        let label: String = rest.by_ref().take_while(|c| *c != '=').collect();
        assert!(is_word(&label) && !label.is_empty() && names.insert(label), "{line:?}");
        assert_eq!(rest.next(), Some('"'), "{line:?}");
        loop {
            match rest.next().unwrap_or_else(|| panic!("an open quote: {line:?}")) {
                '"' => break,
                '\\' => assert!(matches!(rest.next(), Some('\\' | '"' | 'n')), "{line:?}"),
                _ => {}
            }
        }
        match rest.next() {
            Some(',') => {}
            Some('}') => break,
            other => panic!("{other:?} behind a label: {line:?}"),
        }
    }
    let value = rest.as_str().strip_prefix(' ').unwrap_or_else(|| panic!("no value: {line:?}"));
    let mut words = value.split(' ');
    assert!(words.next().unwrap().parse::<f64>().is_ok(), "{line:?}");
    assert!(words.next().is_none_or(|moment| moment.parse::<i64>().is_ok()) && words.next().is_none(), "{line:?}");
    (name, value)
}

fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        ".{0,12}",
        "# TYPE (samovar_)?[ab]_?(sum|count|created)? ?(counter|gauge|histogram|summary|untyped|x)",
        "# HELP [ab] .{0,6}",
        "(samovar_)?[ab]_?(sum|count|bucket|total|created)?(\\{(le|model|exported_model|a)=\"(0.5|.|\\\\n)\"\\})? (1|-2.5e3|NaN|\\+Inf|.)( [0-9])?",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_workers_tell_the_page_is_valid(
        texts in prop::collection::vec(prop::collection::vec(line(), 0..12), 0..4)
    ) {
        let texts: Vec<_> = texts.iter().map(|lines| lines.join("\n")).collect();
        let workers: Vec<_> =
            texts.iter().zip(0..).map(|(text, instance)| Told { instance, ..told("a\\\"", text) }).collect();
        let page = merge(OWN, &workers);
        check_page(&page.text);
        let written = |line: &&str| !line.is_empty() && !line.starts_with('#');
        let told: usize = texts.iter().map(|text| text.split('\n').filter(written).count()).sum();
        let lost: u64 = page.losses.iter().map(|loss| loss.samples).sum();
        prop_assert_eq!(page.text.lines().filter(written).count() + lost as usize, told + 1);
    }
}
