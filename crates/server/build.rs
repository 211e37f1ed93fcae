//! Compiles the gRPC door's protocols with protox, so that no protoc is needed.

/// Messages that the HTTP door shows as JSON too: field names as in the proto file, every default printed.
const AS_JSON: [&str; 18] = [
    "ModelConfig",
    "ModelInput",
    "ModelOutput",
    "ModelInstanceGroup",
    "ModelVersionPolicy.Latest",
    "ModelVersionPolicy.All",
    "ModelVersionPolicy.Specific",
    "ModelVersionPolicy.policy_choice",
    "ModelDynamicBatching",
    "ModelParameter",
    "ModelTransactionPolicy",
    "ModelStatistics",
    "ModelStatisticsResponse",
    "StatisticDuration",
    "InferStatistics",
    "InferResponseStatistics",
    "InferBatchStatistics",
    "MemoryUsage",
];

/// Message fields, which are absent from the JSON when they are not set.
const OPTIONAL: [&str; 3] =
    ["ModelConfig.version_policy", "ModelConfig.dynamic_batching", "ModelConfig.model_transaction_policy"];

/// Enumeration fields and what prints them.
const ENUMS: [(&str, &str); 4] = [
    ("ModelInput.data_type", "data_type"),
    ("ModelOutput.data_type", "data_type"),
    ("ModelInput.format", "format"),
    ("ModelInstanceGroup.kind", "kind"),
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = "../../proto";
    let files = ["inference.proto", "health.proto", "status.proto"];
    for file in files {
        println!("cargo:rerun-if-changed={root}/{file}");
    }
    let mut config = prost_build::Config::new();
    config.bytes(["."]).btree_map(["."]);
    for message in AS_JSON {
        config.type_attribute(format!(".inference.{message}"), "#[derive(serde::Serialize)]");
    }
    for field in OPTIONAL {
        config.field_attribute(format!(".inference.{field}"), "#[serde(skip_serializing_if = \"Option::is_none\")]");
    }
    for (field, printer) in ENUMS {
        let attribute = format!("#[serde(serialize_with = \"crate::proto::json::{printer}\")]");
        config.field_attribute(format!(".inference.{field}"), attribute);
    }
    config.type_attribute(".inference.ModelVersionPolicy.policy_choice", "#[serde(rename_all = \"snake_case\")]");
    config.compile_fds(protox::compile(files, [root])?)?;
    Ok(())
}
