//! Rows of many callers, joined, split and joined again: everybody gets back what is theirs.
#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use samovar_core::admission::{Admitted, admit};
use samovar_core::config::VersionSpec;
use samovar_core::demultiplex::{check_outputs, rows_of, split_input};
use samovar_core::error::Code;
use samovar_core::pending::{Answer, Part, Pending};
use samovar_core::queue::Item;
use samovar_core::request::InferRequest;
use samovar_core::statistics::Stages;
use samovar_core::tensor::{Datatype, NamedTensor, Tensor, byte_size, count_bytes_elements, elements};
use tokio::sync::oneshot;

fn spec(dims: &[(Datatype, &[i64])]) -> Arc<VersionSpec> {
    let tensor = |(index, (datatype, dims)): (usize, &(Datatype, &[i64]))| serde_json::json!({ "name": format!("t{index}"), "datatype": datatype, "dims": dims });
    let tensors: Vec<_> = dims.iter().enumerate().map(tensor).collect();
    serde_json::from_value(serde_json::json!({
        "name": "m", "version": "1", "runtime": "python", "source": null,
        "inputs": tensors, "outputs": tensors, "batch_axis": true, "imports": [], "probe": null,
        "streams": false, "uses": [], "service": null,
        "options": {
            "max_batch_size": 4, "max_queue_delay_ms": 0.0, "worker": "own", "instances": 1, "concurrency": 1, "threads": 1,
            "idempotent": true, "batch_errors": "isolated",
            "writable_inputs": false, "warm_up": null, "load_timeout_s": 1.0, "request_timeout_s": 1.0, "max_request_timeout_s": null, "hard_kill_after_s": null, "max_memory_bytes": null, "max_queue_items": 10,
            "max_queue_bytes": 1000
        },
        "streams": false, "uses": [], "service": null
    }))
    .map(Arc::new)
    .unwrap()
}

fn request(inputs: Vec<Tensor>) -> InferRequest {
    let name = |(index, tensor)| NamedTensor { name: format!("t{index}"), tensor };
    InferRequest {
        id: "r".into(),
        model: "m".into(),
        version: None,
        parameters: Vec::new(),
        inputs: inputs.into_iter().enumerate().map(name).collect(),
        outputs: Vec::new(),
        timeout: None,
        queue_timeout: None,
        idempotent: None,
        trace: None,
        arrived: 0,
        origin: None,
    }
}

/// Two inputs of `rows` rows: FP32 of `width` columns, and texts of these lengths. All bytes are `mark`.
fn inputs(mark: u8, rows: u64, width: u64, lengths: &[usize]) -> Vec<Tensor> {
    let floats = vec![mark; (rows * width * 4) as usize];
    let mut texts = Vec::new();
    for row in 0..rows as usize {
        let length = lengths[row % lengths.len()];
        texts.extend_from_slice(&(length as u32).to_le_bytes());
        texts.extend(vec![mark; length]);
    }
    vec![
        Tensor { datatype: Datatype::Fp32, shape: vec![rows, width], data: floats.into() },
        Tensor { datatype: Datatype::Bytes, shape: vec![rows, 1], data: texts.into() },
    ]
}

/// The items of an admitted request, and where its answer comes.
fn items(admitted: Admitted, max_rows: u64) -> (Vec<Item<Part>>, oneshot::Receiver<Answer>) {
    let rows = admitted.accepted.rows;
    let parts = rows.div_ceil(max_rows).max(1) as usize;
    let (pending, receiver) = Pending::new(admitted.accepted, parts, None);
    let item = |index: usize| {
        let first_row = index as u64 * max_rows;
        Item {
            id: 0,
            request: Part { pending: pending.clone(), index, first_row },
            rows: (rows - first_row).min(max_rows) as u32,
            batch_key: admitted.batch_key,
            cost: 0,
            arrived: 0,
            start_by: 0,
            deadline: 0,
            idempotent: true,
            shares_errors: false,
            deaths: 0,
        }
    };
    ((0..parts).map(item).collect(), receiver)
}

/// Run a batch through a model that returns its inputs.
fn run(spec: &VersionSpec, batch: &[Item<Part>]) {
    let rows = rows_of(batch);
    let stack = |index: usize| {
        let first = &batch[0].request.pending.accepted.inputs[index];
        let mut data = BytesMut::new();
        batch.iter().for_each(|item| data.extend_from_slice(&split_input(item, index).unwrap()));
        let shape = [&[rows], &first.shape[1..]].concat();
        Tensor { datatype: first.datatype, shape, data: data.freeze() }
    };
    let outputs = (0..spec.inputs.len()).map(stack).collect();
    let split = check_outputs(spec, outputs, rows).unwrap();
    let mut first = 0;
    for item in batch {
        let part = &item.request;
        part.pending.complete(part.index, split.part(first, u64::from(item.rows)), (Stages::default(), true));
        first += u64::from(item.rows);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn everybody_gets_their_own_rows_back(
        requests in prop::collection::vec((0..14_u64, prop::collection::vec(0..9_usize, 1..4)), 1..12),
        max_rows in 1..6_u64, order in prop::collection::vec(any::<usize>(), 40), width in 0..3_u64
    ) {
        let spec = spec(&[(Datatype::Fp32, &[-1]), (Datatype::Bytes, &[1])]);
        let mut waiting = Vec::new();
        let mut callers = Vec::new();
        for (mark, (rows, lengths)) in requests.iter().enumerate() {
            let sent = inputs(mark as u8, *rows, width, lengths);
            let (items, receiver) = items(admit(&spec, request(sent.clone())).unwrap(), max_rows);
            waiting.extend(items);
            callers.push((sent, receiver));
        }
        // Any order, in batches of any size.
        let mut turn = order.iter().cycle();
        while !waiting.is_empty() {
            let size = 1 + turn.next().unwrap() % waiting.len().min(5);
            let batch: Vec<_> = (0..size).map(|_| waiting.swap_remove(turn.next().unwrap() % waiting.len())).collect();
            run(&spec, &batch);
        }
        for (sent, mut receiver) in callers {
            prop_assert_eq!(receiver.try_recv().expect("one answer").unwrap().tensors, sent);
        }
    }

    #[test]
    fn what_is_admitted_fits_its_signature(
        shapes in prop::array::uniform2(prop::collection::vec(prop_oneof![0..4_u64, any::<u64>()], 0..4)),
        lengths in prop::array::uniform2(prop_oneof![0..40_usize, Just(48)]), is_swapped in any::<bool>(),
        bytes in prop::collection::vec(any::<u8>(), 48)
    ) {
        let spec = spec(&[(Datatype::Fp32, &[-1]), (Datatype::Bytes, &[1])]);
        let tensor = |index: usize, datatype| Tensor {
            datatype, shape: shapes[index].clone(), data: Bytes::copy_from_slice(&bytes[..lengths[index]])
        };
        let mut request = request(vec![tensor(0, Datatype::Fp32), tensor(1, Datatype::Bytes)]);
        if is_swapped {
            request.inputs.reverse();
        }
        match admit(&spec, request) {
            Ok(admitted) => {
                let [floats, texts] = admitted.accepted.inputs.as_slice() else { panic!("two inputs") };
                prop_assert_eq!(byte_size(Datatype::Fp32, &floats.shape), Some(floats.data.len() as u64));
                prop_assert_eq!(count_bytes_elements(&texts.data), elements(&texts.shape));
                prop_assert_eq!((floats.shape[0], texts.shape[0]), (admitted.accepted.rows, admitted.accepted.rows));
            }
            Err(error) => prop_assert_eq!(error.code, Code::InvalidInput),
        }
    }

    #[test]
    fn only_equal_rows_may_share_a_batch(widths in prop::array::uniform2(0..5_u64), rows in prop::array::uniform2(1..5_u64)) {
        let spec = spec(&[(Datatype::Fp32, &[-1]), (Datatype::Bytes, &[1])]);
        let keys = [0, 1].map(|index| {
            admit(&spec, request(inputs(1, rows[index], widths[index], &[1]))).unwrap().batch_key
        });
        prop_assert_eq!(keys[0] == keys[1], widths[0] == widths[1]);
    }

    #[test]
    fn outputs_that_are_not_one_row_per_row_reach_nobody(
        rows in 0..5_u64, shape in prop::collection::vec(0..5_u64, 0..4), datatype in 0..14_usize
    ) {
        let spec = spec(&[(Datatype::Uint8, &[-1])]);
        let datatype = Datatype::ALL[datatype];
        let length = byte_size(datatype, &shape).unwrap_or(4 * elements(&shape).unwrap());
        let data = Bytes::from(vec![0; length as usize]);
        let fits = datatype == Datatype::Uint8 && shape.len() == 2 && shape[0] == rows;
        match check_outputs(&spec, vec![Tensor { datatype, shape, data }], rows) {
            Ok(_) => prop_assert!(fits),
            Err(error) => prop_assert!(!fits && error.code == Code::BadModelOutput),
        }
    }
}
