//! A version as clients of Triton's extensions read it: its configuration and its statistics.

use std::collections::BTreeMap;
use std::path::Path;

use samovar_core::config::{ModelOptions, VersionSpec};
use samovar_core::statistics::{BatchTotals, Total};
use samovar_core::tensor::{Datatype, Dim, TensorSpec};
use samovar_core::version::Version;

use crate::proto::inference::model_instance_group::Kind;
use crate::proto::inference::model_version_policy::{All, PolicyChoice};
use crate::proto::inference::{
    DataType, InferBatchStatistics, InferStatistics, ModelConfig, ModelDynamicBatching, ModelInput, ModelInstanceGroup,
    ModelOutput, ModelParameter, ModelStatistics, ModelVersionPolicy, StatisticDuration,
};

/// Extensions of the Open Inference Protocol that are served.
pub(crate) const EXTENSIONS: [&str; 5] =
    ["binary_tensor_data", "model_configuration", "model_repository", "parameters", "statistics"];

/// Options that a field of [`ModelConfig`] tells; the others are among its parameters.
const OWN_FIELDS: [&str; 3] = ["max_batch_size", "max_queue_delay_ms", "instances"];

/// What clients know a runtime by: Triton's platform, or its backend where the platform has no name of its own.
pub(crate) fn platform(runtime: &str) -> &str {
    match names(runtime) {
        ("", backend) => backend,
        (platform, _) => platform,
    }
}

/// Platform and backend.
fn names(runtime: &str) -> (&str, &str) {
    match runtime {
        "onnx" => ("onnxruntime_onnx", "onnxruntime"),
        "tensorflow" => ("tensorflow_savedmodel", "tensorflow"),
        "tensorrt" => ("tensorrt_plan", "tensorrt"),
        "torchscript" => ("pytorch_libtorch", "pytorch"),
        other => ("", other),
    }
}

/// The configuration of a version, complete: what nobody set has its default.
pub(crate) fn config(spec: &VersionSpec) -> ModelConfig {
    let (platform, backend) = names(&spec.runtime);
    let options = &spec.options;
    let max_batch_size = if spec.batch_axis { options.max_batch_size.cast_signed() } else { 0 };
    let group = ModelInstanceGroup {
        name: format!("{}_0", spec.name),
        kind: Kind::Cpu.into(),
        count: i32::try_from(options.instances).unwrap_or(i32::MAX),
        ..ModelInstanceGroup::default()
    };
    let batching = || ModelDynamicBatching {
        preferred_batch_size: vec![max_batch_size],
        max_queue_delay_microseconds: (options.max_queue_delay_ms.unwrap_or_default() * 1e3) as u64,
        ..ModelDynamicBatching::default()
    };
    ModelConfig {
        name: spec.name.clone(),
        platform: platform.to_owned(),
        backend: backend.to_owned(),
        version_policy: Some(ModelVersionPolicy { policy_choice: Some(PolicyChoice::All(All {})) }),
        max_batch_size,
        input: spec.inputs.iter().map(input).collect(),
        output: spec.outputs.iter().map(output).collect(),
        dynamic_batching: (max_batch_size > 1).then(batching),
        instance_group: vec![group],
        default_model_filename: file_name(&spec.source),
        parameters: parameters(options),
        ..ModelConfig::default()
    }
}

fn input(spec: &TensorSpec) -> ModelInput {
    let (name, data_type, dims) = tensor(spec);
    ModelInput { name, data_type, dims, ..ModelInput::default() }
}

fn output(spec: &TensorSpec) -> ModelOutput {
    let (name, data_type, dims) = tensor(spec);
    ModelOutput { name, data_type, dims, ..ModelOutput::default() }
}

fn tensor(spec: &TensorSpec) -> (String, i32, Vec<Dim>) {
    let data_type = spec.datatype.map_or(DataType::TypeInvalid, data_type);
    (spec.name.clone(), data_type.into(), spec.shape().to_vec())
}

fn data_type(datatype: Datatype) -> DataType {
    match datatype {
        Datatype::Bool => DataType::TypeBool,
        Datatype::Uint8 => DataType::TypeUint8,
        Datatype::Uint16 => DataType::TypeUint16,
        Datatype::Uint32 => DataType::TypeUint32,
        Datatype::Uint64 => DataType::TypeUint64,
        Datatype::Int8 => DataType::TypeInt8,
        Datatype::Int16 => DataType::TypeInt16,
        Datatype::Int32 => DataType::TypeInt32,
        Datatype::Int64 => DataType::TypeInt64,
        Datatype::Fp16 => DataType::TypeFp16,
        Datatype::Fp32 => DataType::TypeFp32,
        Datatype::Fp64 => DataType::TypeFp64,
        Datatype::Bytes => DataType::TypeString,
        Datatype::Bf16 => DataType::TypeBf16,
    }
}

/// The name of the file that a runtime was told to load, if it is one.
fn file_name(source: &serde_json::Value) -> String {
    let path = source.get("path").and_then(serde_json::Value::as_str).map(Path::new);
    path.and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn parameters(options: &ModelOptions) -> BTreeMap<String, ModelParameter> {
    let value = serde_json::to_value(options).unwrap_or_default();
    let fields = value.as_object().into_iter().flatten().filter(|(name, _)| !OWN_FIELDS.contains(&name.as_str()));
    fields.map(|(name, value)| (name.clone(), ModelParameter { string_value: value.to_string() })).collect()
}

/// The statistics of a version: per request, summed; rows and calls are counted whether or not they succeeded.
pub(crate) fn statistics(version: &Version) -> ModelStatistics {
    let snapshot = version.metrics.snapshot();
    let (success, stages) = (snapshot.success, snapshot.stages);
    let of_success = |ns| duration(success.count, ns);
    ModelStatistics {
        name: version.name.to_string(),
        version: version.version.to_string(),
        last_inference: snapshot.last_call_ms,
        inference_count: snapshot.rows,
        execution_count: snapshot.calls,
        inference_stats: Some(InferStatistics {
            success: total(success),
            fail: total(snapshot.fail),
            queue: of_success(stages.queue),
            compute_input: of_success(stages.input),
            compute_infer: of_success(stages.compute),
            compute_output: of_success(stages.output),
            cache_hit: duration(0, 0),
            cache_miss: duration(0, 0),
        }),
        batch_stats: snapshot.batches.iter().map(|(rows, totals)| batch(*rows, totals)).collect(),
        ..ModelStatistics::default()
    }
}

fn batch(rows: u64, totals: &BatchTotals) -> InferBatchStatistics {
    InferBatchStatistics {
        batch_size: rows,
        compute_input: duration(totals.count, totals.input),
        compute_infer: duration(totals.count, totals.compute),
        compute_output: duration(totals.count, totals.output),
    }
}

fn total(total: Total) -> Option<StatisticDuration> {
    duration(total.count, total.ns)
}

fn duration(count: u64, ns: u64) -> Option<StatisticDuration> {
    Some(StatisticDuration { count, ns })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(batch_axis: bool) -> VersionSpec {
        let mut spec = VersionSpec::undescribed("stn".into(), "1".into());
        spec.runtime = "onnx".into();
        spec.source = serde_json::json!({"path": "/models/stn/1/model.onnx"});
        spec.inputs = vec![
            TensorSpec { name: "x".into(), datatype: Some(Datatype::Bytes), dims: Some(vec![3, -1]) },
            TensorSpec { name: "y".into(), datatype: None, dims: None },
        ];
        spec.batch_axis = batch_axis;
        spec.options.max_batch_size = 8;
        spec.options.max_queue_delay_ms = Some(1.5);
        spec.options.instances = 2;
        spec
    }

    #[test]
    fn a_configuration_says_what_there_is() {
        let value = serde_json::to_value(config(&spec(true))).unwrap();
        let wanted = serde_json::json!({"name": "stn", "platform": "onnxruntime_onnx", "backend": "onnxruntime",
            "max_batch_size": 8, "default_model_filename": "model.onnx", "version_policy": {"all": {}}});
        for (key, wanted) in wanted.as_object().unwrap() {
            assert_eq!(&value[key], wanted, "{key}");
        }
        assert_eq!(value["input"][0]["data_type"], "TYPE_STRING");
        assert_eq!(value["input"][0]["dims"], serde_json::json!([3, -1]));
        assert_eq!(value["input"][1]["data_type"], "TYPE_INVALID");
        assert_eq!(value["input"][1]["dims"], serde_json::json!([-1]));
        assert_eq!(value["dynamic_batching"]["max_queue_delay_microseconds"], 1_500);
        assert_eq!(value["instance_group"][0]["count"], 2);
        assert_eq!(value["instance_group"][0]["kind"], "KIND_CPU");
        assert_eq!(value["parameters"]["idempotent"]["string_value"], "false");
        assert_eq!(value["parameters"].get("instances"), None);
    }

    #[test]
    fn without_a_batch_axis_nothing_is_batched() {
        let config = config(&spec(false));
        assert_eq!((config.max_batch_size, config.dynamic_batching), (0, None));
    }

    #[test]
    fn platforms_are_those_of_triton_where_it_has_one() {
        let known = ["onnx", "torchscript", "tensorflow", "tensorrt", "python"].map(platform);
        let wanted = ["onnxruntime_onnx", "pytorch_libtorch", "tensorflow_savedmodel", "tensorrt_plan", "python"];
        assert_eq!(known, wanted);
    }
}
