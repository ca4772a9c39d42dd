use super::*;
use crate::env::sim::{SimEnv, Simulation};
use crate::env::{Environment, deadline};
use crate::error::{ErrorKind, Result};
use crate::member::{Backend, Persistence, Presence, Span};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

const SIZE: u64 = 1 << 20;

/// Runs a test with one disk, opened by a process, under many seeds.
fn with_disk<F: Future<Output = ()>>(
    seeds: u64,
    test: impl Fn(SimDisks, SimDisk, SimEnv, Arc<SimBackend>) -> F,
) {
    for seed in 0..seeds {
        let mut sim = Simulation::new(seed);
        let harness = sim.handle();
        let disks = SimDisks::new(&harness);
        let disk = disks.create("/a", SIZE);
        let process = harness.new_process();
        let backend = Arc::new(SimBackend::open(&disk, "/a", &process).unwrap());
        sim.run(test(disks, disk, process, backend)).unwrap();
    }
}

fn filled(byte: u8, len: usize) -> Vec<Bytes> {
    vec![Bytes::from(vec![byte; len])]
}

async fn write(backend: &SimBackend, offset: u64, byte: u8, len: usize) -> Result<()> {
    backend.write(offset, filled(byte, len), Persistence::Cached).await
}

async fn read(backend: &SimBackend, env: &SimEnv, offset: u64, len: usize) -> Result<Vec<u8>> {
    let (result, buffer) = backend.read(offset, env.buffers().take(len)).await;
    result.map(|()| buffer.to_vec())
}

fn sectors(bytes: &[u8]) -> Vec<u8> {
    bytes
        .chunks(512)
        .map(|s| {
            assert!(s.iter().all(|b| *b == s[0]), "a sector is torn");
            s[0]
        })
        .collect()
}

#[test]
fn what_was_written_is_read_and_the_rest_is_zero() {
    with_disk(5, |_, _, env, disk| async move {
        let pieces = vec![Bytes::from(vec![1; 4096]), Bytes::from(vec![2; 8192])];
        disk.write(8192, pieces, Persistence::Cached).await.unwrap();
        let seen = read(&disk, &env, 4096, 5 * 4096).await.unwrap();
        let firsts: Vec<u8> = seen.chunks(4096).map(|page| page[0]).collect();
        assert_eq!(firsts, [0, 1, 2, 2, 0]);
        disk.punch(12288, 4096).await.unwrap();
        assert_eq!(read(&disk, &env, 12288, 4096).await.unwrap(), [0; 4096]);
        let spans = disk.spans(4096, 5 * 4096).await.unwrap();
        let expected = [(4096, true), (4096, false), (4096, true), (4096, false), (4096, true)];
        let expected = expected.map(|(len_bytes, hole)| Span { len_bytes, hole });
        assert_eq!(spans, expected);
        disk.flush().await.unwrap();
        assert_eq!(disk.spans(4096, 5 * 4096).await.unwrap(), expected);
    });
}

#[test]
fn a_power_cut_keeps_what_was_flushed_and_any_sectors_of_the_rest() {
    let seen = std::cell::RefCell::new(std::collections::BTreeSet::new());
    with_disk(300, |disks, disk, env, backend| {
        let seen = &seen;
        async move {
            write(&backend, 0, 1, 8192).await.unwrap();
            backend.flush().await.unwrap();
            write(&backend, 0, 2, 4096).await.unwrap();
            write(&backend, 0, 3, 4096).await.unwrap();
            backend.write(8192, filled(4, 4096), Persistence::Synced).await.unwrap();
            assert_eq!(disk.peek(0, 4096), [3; 4096]);
            disks.power_cut(&env);
            assert_eq!(disk.peek(4096, 4096), [1; 4096], "flushed");
            assert_eq!(disk.peek(8192, 4096), [4; 4096], "synced");
            seen.borrow_mut().extend([sectors(&disk.peek(0, 4096))]);
        }
    });
    let seen = seen.into_inner();
    for whole in 1..=3 {
        assert!(seen.contains(&vec![whole; 8]), "all sectors of write {whole} survive some cut");
    }
    let mixed = |s: &Vec<u8>| s.contains(&1) && s.contains(&2) && s.contains(&3);
    assert!(seen.iter().any(mixed), "some cut mixes old and new sectors");
}

#[test]
fn a_flush_covers_only_what_was_answered_before_it_began() {
    let lost = std::cell::Cell::new(0);
    with_disk(100, |disks, disk, env, backend| {
        let lost = &lost;
        async move {
            write(&backend, 0, 1, 4096).await.unwrap();
            let flush = backend.flush();
            write(&backend, 4096, 2, 4096).await.unwrap();
            flush.await.unwrap();
            disks.power_cut(&env);
            assert_eq!(disk.peek(0, 4096), [1; 4096]);
            lost.set(lost.get() + u32::from(disk.peek(4096, 1) == [0]));
        }
    });
    assert!((1..100).contains(&lost.get()));
}

#[test]
fn a_killed_process_keeps_answered_writes_loses_its_lock_and_may_tear_the_one_under_way() {
    let seen = std::cell::RefCell::new(std::collections::BTreeSet::new());
    with_disk(60, |disks, disk, process, backend| {
        let seen = &seen;
        async move {
            write(&backend, 0, 1, 4096).await.unwrap();
            let under_way = backend.write(0, filled(2, 4096), Persistence::Synced);
            let other = SimBackend::open(&disk, "/a", &process);
            assert_eq!(other.err().unwrap().kind(), ErrorKind::Busy);
            disks.kill_process(&process);
            drop(under_way);
            let next = disks.get("/a").unwrap();
            assert!(SimBackend::open(&next, "/a", &process.new_process()).is_ok(), "the lock is gone");
            let after = sectors(&disk.peek(0, 4096));
            assert!(after.iter().all(|s| [1, 2].contains(s)));
            process.new_process().sleep(Duration::from_secs(1)).await;
            assert_eq!(sectors(&disk.peek(0, 4096)), after, "nothing arrives after the kill");
            seen.borrow_mut().extend([after]);
        }
    });
    let seen = seen.into_inner();
    assert!(seen.contains(&vec![1; 8]) && seen.contains(&vec![2; 8]) && seen.len() > 2);
}

#[test]
fn an_abandoned_write_may_still_happen() {
    with_disk(3, |_, disk, env, backend| async move {
        disk.hang();
        let write = backend.write(0, filled(7, 4096), Persistence::Cached);
        assert!(deadline(&env.env(), Duration::from_secs(1), write).await.is_none());
        assert_eq!(disk.peek(0, 1), [0]);
        disk.release();
        env.sleep(Duration::from_millis(1)).await;
        assert_eq!(disk.peek(0, 1), [7]);
    });
}

#[test]
fn a_vanished_disk_is_gone_for_its_handles_and_can_be_opened_again_when_back() {
    with_disk(3, |disks, disk, env, backend| async move {
        assert_eq!(backend.probe().await.unwrap(), Presence::Present);
        write(&backend, 0, 1, 4096).await.unwrap();
        disk.vanish();
        assert!(matches!(backend.probe().await.unwrap(), Presence::Gone(_)));
        assert!(write(&backend, 0, 2, 4096).await.is_err());
        assert!(read(&backend, &env, 0, 4096).await.is_err());
        assert!(backend.flush().await.is_err());
        let opener = disks.opener(&env);
        use crate::member::Opener;
        assert_eq!(opener.open("/a").await.err().unwrap().kind(), ErrorKind::NotFound);
        disk.come_back();
        assert!(matches!(backend.probe().await.unwrap(), Presence::Gone(_)), "the old handle stays dead");
        let again = opener.open("/a").await.unwrap();
        let (result, seen) = again.read(0, env.buffers().take(4096)).await;
        assert!(result.is_ok() && seen.iter().all(|b| *b == 1));
    });
}

#[test]
fn commanded_errors_strike_as_often_as_commanded() {
    with_disk(3, |_, disk, env, backend| async move {
        disk.fail_reads(Trouble::Next(2));
        for expected in [false, false, true] {
            assert_eq!(read(&backend, &env, 0, 4096).await.is_ok(), expected);
        }
        disk.fail_writes(Trouble::Always);
        assert!(write(&backend, 0, 1, 4096).await.is_err());
        disk.fail_flushes(Trouble::Always);
        assert!(backend.flush().await.is_err());
        disk.heal();
        write(&backend, 0, 1, 4096).await.unwrap();
        backend.flush().await.unwrap();
        let counts = disk.counts();
        assert_eq!((counts.read_errors, counts.write_errors, counts.flush_errors), (2, 1, 1));
    });
}

#[test]
fn what_a_failed_flush_covered_is_not_made_durable_by_the_next() {
    with_disk(20, |disks, disk, env, backend| async move {
        write(&backend, 0, 1, 4096).await.unwrap();
        disk.fail_flushes(Trouble::Next(1));
        assert!(backend.flush().await.is_err());
        assert_eq!(read(&backend, &env, 0, 4096).await.unwrap(), [1; 4096]);
        backend.flush().await.unwrap();
        assert_eq!(read(&backend, &env, 0, 4096).await.unwrap(), [1; 4096], "seen until the power goes");
        disks.power_cut(&env);
        assert_eq!(disk.peek(0, 4096), [0; 4096]);
    });
}

#[test]
fn an_unreadable_page_fails_until_it_is_written() {
    with_disk(3, |_, disk, env, backend| async move {
        disk.spoil(4096, 8192);
        assert!(read(&backend, &env, 0, 4096).await.is_ok());
        assert!(read(&backend, &env, 0, 8192).await.is_err());
        write(&backend, 4096, 5, 4096).await.unwrap();
        assert_eq!(read(&backend, &env, 0, 8192).await.unwrap()[4096], 5);
        assert!(disk.is_spoiled() && read(&backend, &env, 8192, 4096).await.is_err());
    });
}

#[test]
fn a_disk_that_lies_answers_success() {
    with_disk(10, |_, disk, _, backend| async move {
        write(&backend, 0, 1, 16384).await.unwrap();
        disk.next_write(WriteFate::Dropped);
        disk.next_write(WriteFate::Misdirected(65536));
        disk.next_write(WriteFate::Torn);
        for byte in 2..5 {
            write(&backend, 0, byte, 16384).await.unwrap();
        }
        assert_eq!(disk.peek(65536, 16384), [3; 16384]);
        let torn = sectors(&disk.peek(0, 16384));
        assert!(torn.contains(&1) && torn.contains(&4) && !torn.contains(&2) && !torn.contains(&3));
        assert_eq!(disk.counts().lies, 3);
    });
}

#[test]
fn planned_faults_come_at_about_their_rate() {
    with_disk(2, |_, disk, env, backend| async move {
        disk.set_plan(FaultPlan {
            transient_read_error: 200_000,
            write_error: 200_000,
            flush_error: 200_000,
            slow: 100_000,
            bit_rot: 100_000,
            torn_write: 50_000,
            dropped_write: 50_000,
            misdirected_write: 50_000,
            ..FaultPlan::default()
        });
        for _ in 0..500 {
            let _ = write(&backend, 0, 1, 8192).await;
            let _ = read(&backend, &env, 0, 8192).await;
            let _ = backend.flush().await;
        }
        let counts = disk.counts();
        for (count, about) in [
            (counts.read_errors, 100),
            (counts.write_errors, 100),
            (counts.flush_errors, 100),
            (counts.delays, 150),
            (counts.lies, 100),
        ] {
            assert!((about / 2..about * 2).contains(&count), "{counts:?}");
        }
        assert!(counts.total() > 400);
    });
}

#[test]
fn bit_rot_flips_one_bit_and_says_nothing() {
    with_disk(5, |_, disk, env, backend| async move {
        disk.set_plan(FaultPlan { bit_rot: 1_000_000, ..FaultPlan::default() });
        let seen = read(&backend, &env, 0, 4096).await.unwrap();
        assert_eq!(seen.iter().map(|b| b.count_ones()).sum::<u32>(), 1);
        assert_eq!(disk.peek(0, 4096), seen, "it is the media that rots");
    });
}

#[test]
fn a_disk_lies_only_where_its_plan_says() {
    with_disk(6, |_, disk, env, backend| async move {
        let lies_in = std::iter::once(8192..16384).collect();
        let plan =
            FaultPlan { bit_rot: 1_000_000, dropped_write: 1_000_000, lies_in, ..FaultPlan::default() };
        disk.set_plan(plan);
        for offset in [0, 8192, 12288, 16384] {
            write(&backend, offset, 7, 4096).await.unwrap();
        }
        assert_eq!(disk.written_pages(0..32768), [0, 16384], "what lies between was dropped");
        assert_eq!(read(&backend, &env, 16384, 4096).await.unwrap(), [7; 4096]);
        assert_ne!(read(&backend, &env, 8192, 4096).await.unwrap(), [0; 4096]);
        assert_eq!(disk.counts().lies, 3);
    });
}

#[test]
fn a_hang_by_plan_takes_as_long_as_planned() {
    with_disk(3, |_, disk, env, backend| async move {
        let hang_time = Duration::from_secs(30);
        disk.set_plan(FaultPlan { hang: 1_000_000, hang_time, ..FaultPlan::default() });
        let begin = env.now();
        write(&backend, 0, 1, 4096).await.unwrap();
        assert_eq!(env.now().since(begin), hang_time);
        disk.heal();
        disk.set_slow(1000);
        let begin = env.now();
        write(&backend, 0, 1, 4096).await.unwrap();
        assert!(env.now().since(begin) >= Duration::from_millis(20));
    });
}

#[test]
fn the_power_fails_at_the_planned_operation_which_is_under_way_and_nothing_after_it_counts() {
    let torn = std::cell::Cell::new(0);
    for crash in [Crash::Kill, Crash::PowerCut] {
        with_disk(100, |disks, disk, env, backend| {
            let torn = &torn;
            async move {
                let before = disks.operations();
                write(&backend, 0, 1, 4096).await.unwrap();
                backend.flush().await.unwrap();
                disks.plan_crash(3, crash);
                write(&backend, 4096, 2, 4096).await.unwrap();
                backend.flush().await.unwrap();
                drop(backend.write(0, filled(4, 4096), Persistence::Cached));
                assert!(env.is_dead() && !disks.unplan_crash());
                drop(backend.write(0, filled(5, 4096), Persistence::Synced));
                assert_eq!(disks.operations() - before, 5, "what a dead process does comes to nothing");
                env.sleep(Duration::from_secs(1)).await;
                assert_eq!(disk.peek(4096, 4096), [2; 4096], "durable before");
                let seen = sectors(&disk.peek(0, 4096));
                assert!(seen.iter().all(|s| [1, 4].contains(s)), "{crash:?}: {seen:?}");
                torn.set(torn.get() + u32::from(seen.contains(&1) && seen.contains(&4)));
            }
        });
    }
    assert!(torn.get() > 20, "some cuts tear the operation itself");
}

#[test]
fn what_happens_to_a_copy_of_the_disks_leaves_the_others_alone() {
    with_disk(3, |disks, disk, env, backend| async move {
        write(&backend, 0, 1, 4096).await.unwrap();
        disks.kill_process(&env);
        let copy = disks.copy();
        copy.power_cut(&env);
        assert_eq!(disk.peek(0, 4096), [1; 4096]);
        copy.get("/a").unwrap().scribble(0, &[7; 4096]);
        assert_eq!(disk.peek(0, 4096), [1; 4096]);
    });
}
