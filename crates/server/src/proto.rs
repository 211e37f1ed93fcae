//! The messages of the gRPC door, made from `proto/` by the build; the HTTP door shows some of them as JSON.

/// `inference`: the Open Inference Protocol.
#[allow(missing_docs, clippy::all)]
pub mod inference {
    include!(concat!(env!("OUT_DIR"), "/inference.rs"));
}

/// `grpc.health.v1`.
#[allow(missing_docs, clippy::all)]
pub mod health {
    include!(concat!(env!("OUT_DIR"), "/grpc.health.v1.rs"));
}

/// `google.rpc`: details of an error.
#[allow(missing_docs, clippy::all)]
pub mod status {
    include!(concat!(env!("OUT_DIR"), "/google.rpc.rs"));
}

/// How enumerations read in JSON: by name. A number that has none cannot come up, the engine sets only its own.
pub(crate) mod json {
    use serde::{Serialize, Serializer};

    use super::inference::model_input::Format;
    use super::inference::model_instance_group::Kind;
    use super::inference::{DataType, ModelVersionPolicy};

    /// A oneof reads as if its choice were a field: `{"all": {}}`.
    impl Serialize for ModelVersionPolicy {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            self.policy_choice.serialize(serializer)
        }
    }

    pub(crate) fn data_type<S: Serializer>(value: &i32, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(DataType::try_from(*value).unwrap_or_default().as_str_name())
    }

    pub(crate) fn format<S: Serializer>(value: &i32, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(Format::try_from(*value).unwrap_or_default().as_str_name())
    }

    pub(crate) fn kind<S: Serializer>(value: &i32, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(Kind::try_from(*value).unwrap_or_default().as_str_name())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::inference::{
        DataType, ModelConfig, ModelInput, ModelStatistics, ModelVersionPolicy, StatisticDuration,
        model_version_policy::{All, PolicyChoice},
    };

    #[test]
    fn json_has_the_names_of_the_proto_and_every_default() {
        let input = ModelInput { name: "x".into(), data_type: DataType::TypeString.into(), ..ModelInput::default() };
        let policy = ModelVersionPolicy { policy_choice: Some(PolicyChoice::All(All {})) };
        let config = ModelConfig {
            name: "m".into(),
            input: vec![input],
            version_policy: Some(policy),
            ..ModelConfig::default()
        };
        let value = serde_json::to_value(config).unwrap();
        assert_eq!(value["input"][0]["data_type"], "TYPE_STRING");
        assert_eq!(value["input"][0]["format"], "FORMAT_NONE");
        assert_eq!(value["input"][0]["dims"], json!([]));
        assert_eq!(value["version_policy"], json!({"all": {}}));
        assert_eq!((&value["max_batch_size"], &value["parameters"]), (&json!(0), &json!({})));
        assert_eq!(value.get("dynamic_batching"), None);
    }

    #[test]
    fn numbers_of_64_bits_are_json_numbers() {
        let duration = StatisticDuration { count: 1, ns: u64::MAX };
        assert_eq!(serde_json::to_value(duration).unwrap(), json!({"count": 1, "ns": u64::MAX}));
        let empty = serde_json::to_value(ModelStatistics::default()).unwrap();
        assert_eq!((&empty["batch_stats"], &empty["response_stats"]), (&json!([]), &json!({})));
    }
}
