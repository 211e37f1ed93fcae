//! Everything but inference: metadata, health, the repository.

use std::collections::BTreeMap;
use std::sync::Arc;

use hyper::StatusCode;
use samovar_core::error::{Code, Error, echo};
use samovar_core::tensor::TensorSpec;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::reply::Reply;
use super::routes::Target;
use crate::data_plane::{DataPlane, ModelMetadata};
use crate::describe::EXTENSIONS;
use crate::door::body::{self, BodyLimits};
use crate::door::call::Call;
use crate::door::limits::{MAX_CONTROL_BYTES, check_load_parameter};

#[derive(Serialize)]
struct ServerMetadata {
    name: &'static str,
    version: &'static str,
    extensions: &'static [&'static str],
}

/// `GET /v2`.
pub(super) fn server() -> Result<Reply, Error> {
    Reply::json(&ServerMetadata { name: "samovar", version: env!("CARGO_PKG_VERSION"), extensions: &EXTENSIONS })
}

/// 200 or 503, without a body.
pub(super) fn health(is_well: bool) -> Reply {
    Reply::empty(if is_well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE })
}

/// `GET .../ready`: 200, or the reason why not.
pub(super) fn model_ready(plane: &DataPlane, target: &Target<'_>) -> Result<Reply, Error> {
    plane.model_ready(&target.model, target.version.as_deref()).map(|()| Reply::empty(StatusCode::OK))
}

#[derive(Serialize)]
struct Metadata<'a> {
    name: &'a str,
    versions: &'a [String],
    platform: &'a str,
    inputs: Vec<TensorMetadata<'a>>,
    outputs: Vec<TensorMetadata<'a>>,
}

#[derive(Serialize)]
struct TensorMetadata<'a> {
    name: &'a str,
    datatype: &'a str,
    shape: &'a [i64],
    /// No member of the protocol: see `records`.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    columns: &'a [String],
}

impl<'a> Metadata<'a> {
    fn new(metadata: &'a ModelMetadata) -> Self {
        let tensors = |specs: &'a [TensorSpec], columns: &'a [String]| {
            let tensor = |spec: &'a TensorSpec| TensorMetadata {
                name: &spec.name,
                datatype: spec.datatype_name(),
                shape: spec.shape(),
                columns,
            };
            specs.iter().map(tensor).collect()
        };
        Self {
            name: &metadata.name,
            versions: &metadata.versions,
            platform: &metadata.platform,
            inputs: tensors(&metadata.inputs, &metadata.columns),
            outputs: tensors(&metadata.outputs, &[]),
        }
    }
}

/// `GET /v2/models/{m}`.
pub(super) fn model(plane: &DataPlane, target: &Target<'_>) -> Result<Reply, Error> {
    Reply::json(&Metadata::new(&plane.metadata(&target.model, target.version.as_deref())?))
}

/// `GET /v2/models/{m}/config`.
pub(super) fn config(plane: &DataPlane, target: &Target<'_>) -> Result<Reply, Error> {
    Reply::json(&plane.model_config(&target.model, target.version.as_deref())?)
}

/// `GET /v2/models/{m}/stats`, and `GET /v2/models/stats` of all.
pub(super) fn statistics(plane: &DataPlane, target: Option<&Target<'_>>) -> Result<Reply, Error> {
    let (model, version) = target.map_or((None, None), |target| (Some(&*target.model), target.version.as_deref()));
    Reply::json(&plane.statistics(model, version)?)
}

#[derive(Serialize)]
struct IndexLine<'a> {
    name: &'a str,
    version: &'a str,
    state: &'a str,
    reason: &'a str,
}

#[derive(Default, Deserialize)]
struct IndexRequest {
    #[serde(default)]
    ready: bool,
}

/// `POST /v2/repository/index`.
pub(super) async fn index(plane: &Arc<DataPlane>, call: &mut Call<'_>) -> Result<Reply, Error> {
    let request: IndexRequest = control_body(plane, call).await?;
    let entries = plane.index();
    let lines: Vec<_> = entries
        .iter()
        .filter(|entry| !request.ready || entry.state == "READY")
        .map(|entry| IndexLine {
            name: &entry.name,
            version: &entry.version,
            state: entry.state,
            reason: &entry.reason,
        })
        .collect();
    Reply::json(&lines)
}

#[derive(Default, Deserialize)]
struct LoadRequest {
    #[serde(default)]
    parameters: Option<BTreeMap<String, IgnoredAny>>,
}

/// `POST /v2/repository/models/{m}/load`.
pub(super) async fn load(plane: &Arc<DataPlane>, model: &str, call: &mut Call<'_>) -> Result<Reply, Error> {
    let request: LoadRequest = control_body(plane, call).await?;
    for key in request.parameters.unwrap_or_default().keys() {
        check_load_parameter(key)?;
    }
    plane.load(model, call.asker).await.map(|()| Reply::empty(StatusCode::OK))
}

/// `POST /v2/repository/models/{m}/unload`.
pub(super) async fn unload(plane: &Arc<DataPlane>, model: &str, call: &mut Call<'_>) -> Result<Reply, Error> {
    let _parameters: LoadRequest = control_body(plane, call).await?;
    plane.unload(model, call.asker).await.map(|()| Reply::empty(StatusCode::OK))
}

/// The JSON of a control request; no body is an empty one.
async fn control_body<T>(plane: &Arc<DataPlane>, call: &mut Call<'_>) -> Result<T, Error>
where
    T: Default + for<'de> Deserialize<'de>,
{
    let coding = call.head.check_content()?;
    let limits = BodyLimits::new(plane.config().max_body_bytes.min(MAX_CONTROL_BYTES));
    let mut permit = plane.body_permit();
    let bytes = body::read(call.body, coding, &limits, |bytes| permit.grow(bytes)).await?;
    call.line.bytes_in = bytes.len() as u64;
    if bytes.trim_ascii().is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(&bytes)
        .map_err(|fault| Error::new(Code::InvalidRequest, format!("invalid JSON: {}", echo(&fault.to_string()))))
}

#[cfg(test)]
mod tests {
    use samovar_core::tensor::Datatype;

    use super::*;

    #[test]
    fn index_requests_are_checked() {
        assert!(serde_json::from_str::<IndexRequest>(r#"{"ready":true}"#).unwrap().ready);
        assert!(!serde_json::from_str::<IndexRequest>("{}").unwrap().ready);
        assert!(serde_json::from_str::<IndexRequest>(r#"{"ready":1}"#).is_err());
        assert!(serde_json::from_str::<IndexRequest>(&format!("{{\"ready\":{}", "[".repeat(250_000))).is_err());
    }

    #[test]
    fn metadata_has_the_protocols_members() {
        let spec = TensorSpec { name: "x".into(), datatype: Some(Datatype::Fp32), dims: Some(vec![-1, 3]) };
        let metadata = ModelMetadata {
            name: "m".into(),
            versions: vec!["1".into()],
            platform: "python".into(),
            inputs: vec![spec],
            outputs: vec![],
            columns: vec!["a".into(), "b".into(), "c".into()],
        };
        let wanted = serde_json::json!({"name": "m", "versions": ["1"], "platform": "python",
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3], "columns": ["a", "b", "c"]}],
            "outputs": []});
        assert_eq!(serde_json::to_value(Metadata::new(&metadata)).unwrap(), wanted);
        let body: serde_json::Value = serde_json::from_slice(&server().unwrap().body).unwrap();
        assert_eq!(body["name"], "samovar");
    }
}
