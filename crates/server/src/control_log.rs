//! Log lines of the control plane, which comes with its fields as JSON.

use serde_json::{Map, Value};

/// Write a line at `level` (debug, info, warning, error) with the fields of a JSON object.
///
/// Fields that tracing knows when it is compiled stand by themselves, lists joined by ` | `; others stand together in
/// `detail`. Errors name what is no level or no object.
pub fn write(level: &str, message: &str, fields: &str) -> Result<(), String> {
    let mut fields: Map<String, Value> = serde_json::from_str(fields).map_err(|error| format!("fields: {error}"))?;
    fields.retain(|_, value| !value.is_null());
    let mut take = |name: &str| fields.remove(name).map(|value| text(&value)).filter(|text| !text.is_empty());
    let (model, version, fault, target) = (take("model"), take("version"), take("message"), take("target"));
    let (exception, signal, traceback) = (take("exception"), take("signal"), take("traceback"));
    let (next_step, stderr) = (take("next_step"), take("stderr"));
    let detail = (!fields.is_empty()).then(|| Value::Object(fields).to_string());
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                target: "samovar::control", model, version, target, fault, exception, signal, next_step, traceback, stderr,
                detail, "{message}"
            )
        };
    }
    match level {
        "debug" => line!(debug),
        "info" => line!(info),
        "warning" => line!(warn),
        "error" => line!(error),
        _ => return Err(format!("level {level:?} is none of debug, info, warning, error")),
    }
    Ok(())
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(lines) => lines.iter().map(text).collect::<Vec<_>>().join(" | "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_level_or_no_object_is_refused() {
        assert!(write("info", "loading", r#"{"model": "stn", "stderr": ["a", "b"], "other": 1}"#).is_ok());
        assert!(write("loud", "loading", "{}").is_err());
        assert!(write("info", "loading", "[]").is_err());
    }

    #[test]
    fn lists_are_joined() {
        assert_eq!(text(&serde_json::json!(["a", 1])), "a | 1");
    }
}
