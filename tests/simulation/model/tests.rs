use super::*;

fn write(model: &mut Model, byte: u8, ending: Ending) -> ChangeId {
    let data = Bytes::from(vec![byte; 4096]);
    let id = model.begin(0, 4096, Some(&data), false);
    model.end(id, ending);
    id
}

/// Which of the bytes 0..10 the first block may hold now; looks at a copy.
fn possible(model: &Model) -> Vec<u8> {
    let fits = |byte: &u8| {
        let mut copy = model.clone();
        let tick = copy.tick();
        copy.check(tick, 0, &[*byte; 4096]).is_ok()
    };
    (0..10).filter(fits).collect()
}

fn flush(model: &mut Model) {
    let tick = model.tick();
    model.flushed(tick);
}

#[test]
fn the_last_answered_write_is_read_and_nothing_else() {
    let mut model = Model::new(4096);
    assert_eq!(possible(&model), [0]);
    write(&mut model, 1, Ending::Done);
    write(&mut model, 2, Ending::Done);
    assert_eq!(possible(&model), [2]);
    flush(&mut model);
    assert!(model.blocks[0].layers.is_empty(), "what is settled is folded");
    assert_eq!(possible(&model), [2]);
}

#[test]
fn writes_that_overlap_in_time_leave_either_until_a_read_settles_it() {
    let mut model = Model::new(4096);
    let data = |byte| Bytes::from(vec![byte; 4096]);
    let a = model.begin(0, 4096, Some(&data(1)), false);
    let b = model.begin(0, 4096, Some(&data(2)), false);
    assert_eq!(possible(&model), [0, 1, 2]);
    model.end(a, Ending::Done);
    assert_eq!(possible(&model), [1, 2]);
    model.end(b, Ending::Done);
    assert_eq!(possible(&model), [1, 2]);
    let tick = model.tick();
    model.check(tick, 0, &[1; 4096]).unwrap();
    assert_eq!(possible(&model), [1]);
}

#[test]
fn a_read_that_began_before_a_write_ended_may_answer_either() {
    let mut model = Model::new(4096);
    let tick = model.tick();
    write(&mut model, 1, Ending::Done);
    model.check(tick, 0, &[0; 4096]).unwrap();
    model.check(tick, 0, &[1; 4096]).unwrap();
    let tick = model.tick();
    assert!(model.check(tick, 0, &[0; 4096]).is_err());
}

#[test]
fn a_durable_write_during_a_read_does_not_make_the_model_forget() {
    let mut model = Model::new(4096);
    let tick = model.begin_read();
    write(&mut model, 1, Ending::Durable);
    model.check(tick, 0, &[0; 4096]).unwrap();
    model.end_read(tick);
    assert_eq!(possible(&model), [1]);
    write(&mut model, 2, Ending::Durable);
    assert!(model.blocks[0].layers.is_empty());
}

#[test]
fn a_kill_keeps_what_was_answered_and_a_power_cut_what_was_durable() {
    for (power_cut, expected) in [(false, vec![3, 4]), (true, vec![2, 3, 4])] {
        let mut model = Model::new(4096);
        write(&mut model, 1, Ending::Done);
        write(&mut model, 2, Ending::Done);
        flush(&mut model);
        write(&mut model, 3, Ending::Done);
        model.begin(0, 4096, Some(&Bytes::from(vec![4; 4096])), false);
        model.crash(power_cut);
        assert_eq!(possible(&model), expected);
        let settled = *expected.last().unwrap();
        let tick = model.tick();
        model.check(tick, 0, &[settled; 4096]).unwrap();
        assert_eq!(possible(&model), [settled]);
        flush(&mut model);
        model.crash(true);
        assert_eq!(possible(&model), [settled], "settled and flushed");
    }
}

#[test]
fn a_durable_write_survives_a_power_cut_without_a_flush() {
    let mut model = Model::new(4096);
    write(&mut model, 1, Ending::Done);
    write(&mut model, 2, Ending::Durable);
    model.crash(true);
    assert_eq!(possible(&model), [2]);
}

#[test]
fn a_failed_write_may_have_happened_until_a_later_one_covers_it() {
    let mut model = Model::new(4096);
    write(&mut model, 1, Ending::Done);
    write(&mut model, 2, Ending::Failed);
    assert_eq!(possible(&model), [1, 2]);
    flush(&mut model);
    assert_eq!(possible(&model), [1, 2]);
    write(&mut model, 3, Ending::Durable);
    assert_eq!(possible(&model), [3]);
    assert!(model.blocks[0].layers.is_empty());
}

#[test]
fn a_failed_write_that_was_read_may_be_gone_after_a_crash() {
    for flushed in [false, true] {
        let mut model = Model::new(4096);
        write(&mut model, 1, Ending::Durable);
        write(&mut model, 2, Ending::Failed);
        let tick = model.tick();
        model.check(tick, 0, &[2; 4096]).unwrap();
        assert_eq!(possible(&model), [2]);
        if flushed {
            flush(&mut model);
        }
        model.crash(false);
        assert_eq!(possible(&model), [1, 2]);
    }
}

#[test]
fn a_discarded_block_reads_as_before_or_as_zeroes() {
    let mut model = Model::new(8192);
    write(&mut model, 1, Ending::Durable);
    let id = model.begin(0, 8192, None, true);
    model.end(id, Ending::Done);
    assert_eq!(possible(&model), [0, 1]);
}

#[test]
fn tiny_writes_at_once_in_one_block_all_stay() {
    let mut model = Model::new(4096);
    let piece = |byte| Bytes::from(vec![byte; 100]);
    let a = model.begin(0, 100, Some(&piece(1)), false);
    let b = model.begin(100, 100, Some(&piece(2)), false);
    model.end(b, Ending::Done);
    model.end(a, Ending::Done);
    let mut expected = vec![0; 4096];
    expected[..100].fill(1);
    expected[100..200].fill(2);
    let tick = model.tick();
    model.check(tick, 0, &expected).unwrap();
    expected[100] = 0;
    assert!(model.check(tick, 0, &expected).is_err(), "a lost update is found");
}

#[test]
fn a_block_is_old_or_new_as_a_whole() {
    let mut model = Model::new(4096);
    write(&mut model, 1, Ending::Durable);
    write(&mut model, 2, Ending::Done);
    model.crash(true);
    assert_eq!(possible(&model), [1, 2]);
    let mut mixed = [1; 4096];
    mixed[512..1024].fill(2);
    let tick = model.tick();
    let why = model.check(tick, 0, &mixed).unwrap_err();
    assert!(why.starts_with("at volume byte 512 "), "{why}");
}

#[test]
fn only_whole_stripes_rewritten_in_a_crash_are_in_doubt_until_written_again() {
    let mut model = Model::new(6 * 4096);
    let data = |blocks: usize| Bytes::from(vec![1; blocks * 4096]);
    let durable = model.begin(0, 8192, Some(&data(2)), false);
    model.end(durable, Ending::Durable);
    let answered = model.begin(4096, 3 * 4096, Some(&data(3)), false);
    model.end(answered, Ending::Done);
    model.begin(16384, 4096, Some(&data(1)), false);
    model.doubt(false, 8192, |_, _| true);
    assert!(model.doubted().is_empty(), "a kill does not tear what was answered");
    model.doubt(true, 8192, |_, _| true);
    model.crash(true);
    assert_eq!(model.doubted(), [8192, 12288]);
    assert!(model.must_read(0, 8192) && !model.must_read(4096, 4097));
    let again = model.begin(8192, 4096, Some(&data(1)), false);
    assert!(!model.must_read(8192, 4096));
    model.end(again, Ending::Done);
    assert_eq!(model.doubted(), [12288]);
}

#[test]
fn a_wrong_answer_is_explained_by_whose_bytes_they_are() {
    let mut model = Model::new(8192);
    let stale = content(1, 4096, 4096);
    let id = model.begin(0, 8192, Some(&Bytes::from(content(1, 0, 8192))), false);
    model.end(id, Ending::Done);
    let tick = model.tick();
    let why = model.check(tick, 0, &stale).unwrap_err();
    assert!(why.contains("bytes of change 1 meant for volume byte 4096"), "{why}");
}
