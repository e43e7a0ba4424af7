//! Custom data: set one or all or none, got by either name.

use landreeve_core::error::Faults;
use landreeve_delivery::custom_data::{
    CustomDataRef, NewCustomData, check, custom_data_delete, custom_data_delete_all, custom_data_get,
    custom_data_list, custom_data_set,
};
use serde_json::{Value, json};

use crate::support::{World, minute};

conformance![a_record_has_two_names, one_bad_record_sets_none, units_do_not_share_records];

fn new(reference: &str, key: &str, value: Value) -> NewCustomData {
    NewCustomData { reference: reference.to_owned(), key: key.to_owned(), value, at: None }
}

fn by_key(reference: &str, key: &str) -> CustomDataRef {
    CustomDataRef::Key { reference: reference.to_owned(), key: key.to_owned() }
}

async fn a_record_has_two_names(world: &World) {
    let (plane, ctx) = (&world.plane, &world.ctx);
    let set = custom_data_set(plane, ctx, vec![new("o/r", "k", json!({"b": 1, "a": [true]}))]).await.unwrap();
    assert_eq!(set[0].at, world.kit.estate.now());
    assert_eq!(custom_data_get(plane, ctx, &by_key("o/r", "k")).await.unwrap(), set[0]);
    assert_eq!(custom_data_get(plane, ctx, &CustomDataRef::Id(set[0].id)).await.unwrap(), set[0]);
    // Set again: the same record.
    let again = NewCustomData { at: Some(minute(3)), ..new("o/r", "k", json!({"b": 2})) };
    let again = custom_data_set(plane, ctx, vec![again, new("o/r", "j", json!({}))]).await.unwrap();
    assert_eq!((again[0].id, again[0].at), (set[0].id, minute(3)));
    let listed = custom_data_list(plane, ctx, "o/r").await.unwrap();
    assert_eq!(listed, [again[1].clone(), again[0].clone()]);
    let rows = world.sql("SELECT reference, key, value, timestamp FROM custom_data WHERE key = 'k'").await;
    assert_eq!(rows, [["o/r", "k", "{\"b\":2}", "2026-01-01T00:03:00Z"]]);
    custom_data_delete(plane, ctx, &CustomDataRef::Id(set[0].id)).await.unwrap();
    for which in [by_key("o/r", "k"), CustomDataRef::Id(set[0].id)] {
        assert_eq!(custom_data_get(plane, ctx, &which).await.unwrap_err().code, "not_found");
        assert_eq!(custom_data_delete(plane, ctx, &which).await.unwrap_err().code, "not_found");
    }
    custom_data_delete(plane, ctx, &by_key("o/r", "j")).await.unwrap();
    assert_eq!(custom_data_list(plane, ctx, "o/r").await.unwrap(), []);
    custom_data_set(
        plane,
        ctx,
        vec![new("x", "1", json!({})), new("x", "2", json!({})), new("y", "1", json!({}))],
    )
    .await
    .unwrap();
    assert_eq!(custom_data_delete_all(plane, ctx, "x".to_owned()).await.unwrap(), 2);
    assert_eq!(custom_data_delete_all(plane, ctx, "x".to_owned()).await.unwrap(), 0);
    assert_eq!(world.sql("SELECT reference FROM custom_data").await, [["y"]]);
}

async fn one_bad_record_sets_none(world: &World) {
    for bad in [new("", "k", json!({})), new("r", "k\0", json!({})), new("r", "k", json!([1]))] {
        let mut faults = Faults::default();
        check(&bad, "data.1.", &mut faults);
        let error =
            custom_data_set(&world.plane, &world.ctx, vec![new("r", "a", json!({})), bad]).await.unwrap_err();
        assert_eq!(error.faults, faults.finish().unwrap_err().faults);
        assert!(error.faults[0].field.starts_with("data.1."), "{error:?}");
    }
    assert_eq!(world.number("SELECT count(*) FROM delivery_custom_data").await, 0);
}

async fn units_do_not_share_records(world: &World) {
    let ou = world.kit.ou("other").await;
    let other = landreeve_estate::ops::sign_in::system_in(&world.kit.estate, ou.id).await.unwrap();
    let ours =
        custom_data_set(&world.plane, &world.ctx, vec![new("r", "k", json!({"ours": 1}))]).await.unwrap();
    let theirs =
        custom_data_set(&world.plane, &other, vec![new("r", "k", json!({"theirs": 1}))]).await.unwrap();
    assert_ne!(ours[0].id, theirs[0].id);
    assert_eq!(custom_data_get(&world.plane, &other, &by_key("r", "k")).await.unwrap(), theirs[0]);
    let error = custom_data_get(&world.plane, &other, &CustomDataRef::Id(ours[0].id)).await.unwrap_err();
    assert_eq!(error.code, "not_found");
}
