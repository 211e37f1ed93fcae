//! Everything but inference: metadata, health, the repository.

use std::sync::Arc;

use prost::Message;
use samovar_core::error::{Code, Error, echo};
use samovar_core::tensor::TensorSpec;

use super::frame::{self, Frame, framed};
use crate::data_plane::{DataPlane, IndexEntry};
use crate::describe::EXTENSIONS;
use crate::door::body::BodyLimits;
use crate::door::call::Call;
use crate::door::invalid;
use crate::door::limits::{MAX_CONTROL_BYTES, check_load_parameter};
use crate::door::names::check_name;
use crate::proto::health::health_check_response::ServingStatus;
use crate::proto::health::{HealthCheckRequest, HealthCheckResponse};
use crate::proto::inference::model_metadata_response::TensorMetadata;
use crate::proto::inference::repository_index_response::ModelIndex;
use crate::proto::inference::{
    ModelConfigRequest, ModelConfigResponse, ModelMetadataRequest, ModelMetadataResponse, ModelReadyRequest,
    ModelReadyResponse, ModelStatisticsRequest, RepositoryIndexRequest, RepositoryIndexResponse,
    RepositoryModelLoadRequest, RepositoryModelLoadResponse, RepositoryModelUnloadRequest,
    RepositoryModelUnloadResponse, ServerLiveRequest, ServerLiveResponse, ServerMetadataRequest,
    ServerMetadataResponse, ServerReadyRequest, ServerReadyResponse,
};

type Plane = Arc<DataPlane>;

pub(super) async fn server_live(plane: &Plane, call: &mut Call<'_>) -> Result<Frame, Error> {
    let _: ServerLiveRequest = request(plane, call).await?;
    answer(&ServerLiveResponse { live: plane.live() })
}

pub(super) async fn server_ready(plane: &Plane, call: &mut Call<'_>) -> Result<Frame, Error> {
    let _: ServerReadyRequest = request(plane, call).await?;
    answer(&ServerReadyResponse { ready: plane.ready() })
}

/// Not ready, whatever the reason: of an unknown model too, as clients that wait for one expect.
pub(super) async fn model_ready(plane: &Plane, call: &mut Call<'_>) -> Result<Frame, Error> {
    let asked: ModelReadyRequest = request(plane, call).await?;
    let (model, version) = target(plane, call, &asked.name, &asked.version)?;
    answer(&ModelReadyResponse { ready: plane.model_ready(model, version).is_ok() })
}

pub(super) async fn server_metadata(plane: &Plane, call: &mut Call<'_>) -> Result<Frame, Error> {
    let _: ServerMetadataRequest = request(plane, call).await?;
    let (name, version) = ("samovar".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
    answer(&ServerMetadataResponse { name, version, extensions: EXTENSIONS.map(str::to_owned).to_vec() })
}

pub(super) async fn model_metadata(plane: &Plane, call: &mut Call<'_>) -> Result<Frame, Error> {
    let asked: ModelMetadataRequest = request(plane, call).await?;
    let (model, version) = target(plane, call, &asked.name, &asked.version)?;
    let metadata = plane.metadata(model, version)?;
    answer(&ModelMetadataResponse {
        name: metadata.name.to_string(),
        versions: metadata.versions,
        platform: metadata.platform,
        inputs: metadata.inputs.iter().map(tensor).collect(),
        outputs: metadata.outputs.iter().map(tensor).collect(),
    })
}

fn tensor(spec: &TensorSpec) -> TensorMetadata {
    TensorMetadata { name: spec.name.clone(), datatype: spec.datatype_name().to_owned(), shape: spec.shape().to_vec() }
}

pub(super) async fn model_config(plane: &Plane, call: &mut Call<'_>) -> Result<Frame, Error> {
    let asked: ModelConfigRequest = request(plane, call).await?;
    let (model, version) = target(plane, call, &asked.name, &asked.version)?;
    answer(&ModelConfigResponse { config: Some(plane.model_config(model, version)?) })
}

/// Of every model where none is named.
pub(super) async fn model_statistics(plane: &Plane, call: &mut Call<'_>) -> Result<Frame, Error> {
    let asked: ModelStatisticsRequest = request(plane, call).await?;
    if asked.name.is_empty() {
        return answer(&plane.statistics(None, None)?);
    }
    let (model, version) = target(plane, call, &asked.name, &asked.version)?;
    answer(&plane.statistics(Some(model), version)?)
}

pub(super) async fn repository_index(plane: &Plane, call: &mut Call<'_>) -> Result<Frame, Error> {
    let asked: RepositoryIndexRequest = request(plane, call).await?;
    check_repository(&asked.repository_name)?;
    let line = |entry: IndexEntry| ModelIndex {
        name: entry.name,
        version: entry.version,
        state: entry.state.to_owned(),
        reason: entry.reason,
    };
    let entries = plane.index().into_iter().filter(|entry| !asked.ready || entry.state == "READY");
    answer(&RepositoryIndexResponse { models: entries.map(line).collect() })
}

pub(super) async fn load(plane: &Plane, call: &mut Call<'_>) -> Result<Frame, Error> {
    let asked: RepositoryModelLoadRequest = request(plane, call).await?;
    check_repository(&asked.repository_name)?;
    let (model, _) = target(plane, call, &asked.model_name, "")?;
    asked.parameters.keys().try_for_each(|key| check_load_parameter(key))?;
    plane.load(model, call.asker).await?;
    answer(&RepositoryModelLoadResponse {})
}

pub(super) async fn unload(plane: &Plane, call: &mut Call<'_>) -> Result<Frame, Error> {
    let asked: RepositoryModelUnloadRequest = request(plane, call).await?;
    check_repository(&asked.repository_name)?;
    let (model, _) = target(plane, call, &asked.model_name, "")?;
    plane.unload(model, call.asker).await?;
    answer(&RepositoryModelUnloadResponse {})
}

fn check_repository(name: &str) -> Result<(), Error> {
    if name.is_empty() {
        return Ok(());
    }
    let name = echo(name);
    Err(invalid(format!(
        "repository \"{name}\" is not served: repositories have no names; leave repository_name empty"
    )))
}

/// The engine for the empty name and those of its services, else the model of that name; an unknown one is
/// `unknown_model`, as the health protocol wants it.
pub(super) async fn health_check(plane: &Plane, call: &mut Call<'_>) -> Result<Frame, Error> {
    let asked: HealthCheckRequest = request(plane, call).await?;
    let is_well = match asked.service.as_str() {
        "" | "inference.GRPCInferenceService" | "grpc.health.v1.Health" => plane.ready(),
        model => match plane.model_ready(model, None) {
            Err(error) if error.code == Code::UnknownModel => return Err(error),
            readiness => readiness.is_ok(),
        },
    };
    let status = if is_well { ServingStatus::Serving } else { ServingStatus::NotServing };
    answer(&HealthCheckResponse { status: status.into() })
}

/// The names that a request is about, checked, and noted for the log.
fn target<'a>(
    plane: &DataPlane,
    call: &mut Call<'_>,
    model: &'a str,
    version: &'a str,
) -> Result<(&'a str, Option<&'a str>), Error> {
    let version = Some(version).filter(|version| !version.is_empty());
    check_name(model)?;
    version.map(check_name).transpose()?;
    call.line.model = Some(model.to_owned());
    call.line.version = version.map(Arc::from).or_else(|| plane.chosen_version(model));
    Ok((model, version))
}

/// The one message of a call that is no inference.
async fn request<T: Message + Default>(plane: &Plane, call: &mut Call<'_>) -> Result<T, Error> {
    let coding = call.head.message_coding()?;
    let limits = BodyLimits::new(plane.config().max_body_bytes.min(MAX_CONTROL_BYTES));
    let mut permit = plane.body_permit();
    let message = frame::read(call.body, coding, &limits, |bytes| permit.grow(bytes)).await?;
    call.line.bytes_in = message.len() as u64;
    T::decode(message)
        .map_err(|fault| invalid(format!("the message is no valid protobuf: {}", echo(&fault.to_string()))))
}

fn answer(message: &impl Message) -> Result<Frame, Error> {
    framed(message).ok_or_else(|| Error::new(Code::Internal, "the answer is larger than the 4 GiB of a message"))
}
