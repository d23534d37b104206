//! What Prometheus' own tool says of the metrics, the alerts and the dashboard in `packaging/`.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

use super::world::World;

fn packaged(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("packaging")
        .join(name)
}

/// `promtool` of Debian's package prometheus has nothing to say.
fn promtool(args: &[&str], input: &str) {
    let mut child = Command::new("promtool")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("promtool, which tests/setup.sh installs: {error}"));
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "promtool {args:?}: {said}");
}

/// Every metric that there is.
async fn text() -> String {
    let world = World::owned().await;
    world.exporter.text().await.unwrap()
}

/// The names of metrics in an expression.
fn names(expression: &str) -> impl Iterator<Item = &str> {
    let other = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    expression
        .split(other)
        .filter(|word| word.starts_with("sgagent_") || word.starts_with("process_"))
}

/// Those of them that nobody exports.
fn unknown<'a>(expressions: &[&'a str], text: &str) -> Vec<&'a str> {
    let exported: BTreeSet<&str> = text
        .lines()
        .map(|line| line.strip_prefix("# TYPE ").unwrap_or(line))
        .filter_map(|line| line.split(['{', ' ']).next())
        .collect();
    let used = expressions.iter().flat_map(|expression| names(expression));
    used.filter(|name| !exported.contains(name)).collect()
}

fn expressions<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get("expr").and_then(Value::as_str));
            fields.values().for_each(|field| expressions(field, found));
        }
        Value::Array(items) => items.iter().for_each(|item| expressions(item, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[tokio::test]
async fn the_metrics_are_named_as_prometheus_wants_them() {
    promtool(&["check", "metrics"], &text().await);
}

#[tokio::test]
async fn every_alert_fires_when_it_has_to_and_is_about_metrics_that_there_are() {
    let rules = packaged("prometheus/sgagent.rules.yml");
    promtool(
        &["check", "rules", "--lint-fatal", rules.to_str().unwrap()],
        "",
    );
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/api/alerts.test.yml");
    promtool(&["test", "rules", tests.to_str().unwrap()], "");
    let rules = std::fs::read_to_string(rules).unwrap();
    let uncommented = rules
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'));
    let rules: String = uncommented.collect::<Vec<_>>().join("\n");
    assert_eq!(unknown(&[&rules], &text().await), Vec::<&str>::new());
}

#[tokio::test]
async fn every_panel_asks_what_prometheus_understands_for_metrics_that_there_are() {
    let dashboard = std::fs::read_to_string(packaged("grafana/sgagent.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    let mut all = Vec::new();
    expressions(&dashboard, &mut all);
    assert!(all.len() > 15, "{all:?}");
    assert_eq!(unknown(&all, &text().await), Vec::<&str>::new());

    // As recording rules, which the tool parses; Grafana's variables have values by then.
    let mut rules = "groups:\n- name: panels\n  rules:\n".to_owned();
    for (number, expression) in all.iter().enumerate() {
        let expression = expression
            .replace("$__rate_interval", "5m")
            .replace("$instance", ".*");
        let expression = serde_json::to_string(&expression).unwrap();
        writeln!(
            rules,
            "  - record: panel:number{number}\n    expr: {expression}"
        )
        .unwrap();
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, rules).unwrap();
    promtool(&["check", "rules", file.path().to_str().unwrap()], "");
}
