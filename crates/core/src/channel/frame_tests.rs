//! The codec of all ten kinds, and hostile bytes.

use proptest::prelude::*;
use prost::Message;

use super::super::proto;
use super::*;

fn descriptor() -> impl Strategy<Value = Descriptor> {
    let identity = (0..10_usize, 0..16_u8, 0..=1_u16, any::<u32>(), any::<u64>(), any::<u32>(), any::<u32>());
    let place = (any::<u64>(), any::<u32>(), any::<u32>(), any::<u32>(), 0..=MAX_METADATA_BYTES);
    let tensor = (any::<u32>(), 0..=(MAX_TENSOR_BYTES as u32), any::<u32>(), 1..15_u8);
    (identity, place, tensor).prop_map(|(identity, place, tensor)| Descriptor {
        kind: Kind::ALL[identity.0],
        flags: identity.1,
        tensor_count: if identity.1 & FLAG_TENSOR != 0 { 1 } else { identity.2 },
        instance: identity.3,
        call: identity.4,
        item: identity.5,
        sequence: identity.6,
        deadline: place.0,
        segment: place.1,
        generation: place.2,
        offset: place.3,
        metadata_length: if identity.0 == 5 { place.4.min(MAX_END_METADATA_BYTES) } else { place.4 },
        tensor_offset: tensor.0,
        tensor_length: tensor.1,
        rows: tensor.2,
        datatype: tensor.3,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_kind_round_trips(descriptor in descriptor()) {
        prop_assert_eq!(Descriptor::decode(&descriptor.encode()), Ok(descriptor));
    }

    #[test]
    fn hostile_descriptors_are_refused_or_hold_the_limits(bytes in prop::array::uniform32(any::<u8>()), tail in prop::array::uniform32(any::<u8>())) {
        let mut whole = [0; DESCRIPTOR_BYTES];
        whole[..32].copy_from_slice(&bytes);
        whole[32..].copy_from_slice(&tail);
        whole[0] %= 12;
        whole[1] %= 9;
        whole[61..].fill(0);
        if let Ok(descriptor) = Descriptor::decode(&whole) {
            prop_assert!(descriptor.metadata_length <= MAX_METADATA_BYTES);
            prop_assert!(usize::from(descriptor.tensor_count) <= MAX_TENSORS);
            prop_assert_eq!(descriptor.encode(), whole);
        }
    }

    #[test]
    fn hostile_metadata_never_passes_the_checks_unharmed(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(end) = proto::End::decode(bytes.as_slice()) {
            for tensor in &end.tensors {
                if let Ok(reference) = Reference::check(tensor) {
                    prop_assert!(reference.length <= MAX_TENSOR_BYTES && reference.shape.len() <= MAX_RANK);
                }
            }
        }
        let _ = proto::Call::decode(bytes.as_slice());
        let _ = proto::Hello::decode(bytes.as_slice());
    }

    #[test]
    fn references_with_a_length_unlike_their_shape_are_refused(
        dims in prop::collection::vec(-2..70_000_i64, 0..20), length in any::<u64>(), datatype in 0..20_u32, kind in 0..5_i32
    ) {
        let tensor = TensorRef { kind, length, datatype, dims: dims.clone(), ..TensorRef::default() };
        if let Ok(reference) = Reference::check(&tensor) {
            prop_assert!(dims.iter().all(|dim| *dim >= 0) && dims.len() <= MAX_RANK);
            if reference.datatype != Datatype::Bytes {
                prop_assert_eq!(byte_size(reference.datatype, &reference.shape), Some(length));
            }
        }
    }
}

#[test]
fn unknown_kinds_flags_and_reserved_bytes_are_refused() {
    let good = Descriptor::new(Kind::Call, 7).encode();
    for (at, value) in [(0, 0), (0, 11), (1, 16), (61, 1), (63, 1)] {
        let mut bytes = good;
        bytes[at] = value;
        assert!(Descriptor::decode(&bytes).is_err(), "byte {at} = {value}");
    }
    assert!(Descriptor::decode(&good).is_ok());
}

#[test]
fn an_empty_tensor_is_a_tensor() {
    let reference = Reference::check(&inline_reference(0, Datatype::Fp32, &[0, 7])).unwrap();
    assert_eq!(reference.shape, [0, 7]);
    let bytes = Reference::check(&inline_reference(0, Datatype::Bytes, &[0])).unwrap();
    assert!(bytes.check_content(&[]).is_ok());
    let lying = Reference::check(&inline_reference(8, Datatype::Bytes, &[2])).unwrap();
    assert!(lying.check_content(&[4, 0, 0, 0, 1, 2, 3, 4]).is_err());
}
