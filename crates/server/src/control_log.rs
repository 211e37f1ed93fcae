//! Log lines of the control plane, which comes with its fields as JSON.

use serde_json::{Map, Value};

/// Write a line at `level` (debug, info, warning, error) with the fields of a JSON object.
///
/// `model` and `version` become fields of their own; the others, which tracing would need to know when it is compiled,
/// stand together in `detail`. Errors name what is no level or no object.
pub fn write(level: &str, message: &str, fields: &str) -> Result<(), String> {
    let mut fields: Map<String, Value> = serde_json::from_str(fields).map_err(|error| format!("fields: {error}"))?;
    let mut take = |name: &str| fields.remove(name).and_then(|value| value.as_str().map(str::to_owned));
    let (model, version) = (take("model"), take("version"));
    let detail = (!fields.is_empty()).then(|| Value::Object(fields).to_string());
    match level {
        "debug" => tracing::debug!(target: "samovar::control", model, version, detail, "{message}"),
        "info" => tracing::info!(target: "samovar::control", model, version, detail, "{message}"),
        "warning" => tracing::warn!(target: "samovar::control", model, version, detail, "{message}"),
        "error" => tracing::error!(target: "samovar::control", model, version, detail, "{message}"),
        _ => return Err(format!("level {level:?} is none of debug, info, warning, error")),
    }
    Ok(())
}
