use super::*;
use crate::env::{Environment, deadline};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn virtual_time_jumps_from_timer_to_timer() {
    let mut sim = Simulation::new(1);
    let env = sim.env();
    let end = sim.run(async {
        env.sleep(SECOND * 3600).await;
        env.sleep(Duration::ZERO).await;
        assert!(deadline(&env, SECOND, env.sleep(SECOND * 2)).await.is_none());
        assert!(deadline(&env, SECOND * 2, env.sleep(SECOND)).await.is_some());
        env.now()
    });
    assert_eq!(end.unwrap().0, SECOND * 3602);
}

#[test]
fn waiting_for_nothing_is_reported_as_a_deadlock() {
    let mut sim = Simulation::new(1);
    let env = sim.env();
    let stuck = sim.run(async {
        env.sleep(SECOND).await;
        std::future::pending::<()>().await;
    });
    let text = stuck.unwrap_err().to_string();
    assert!(text.starts_with("deadlock: nothing can make progress at t=1s"), "{text}");
}

#[test]
fn a_task_that_spins_hits_the_step_limit() {
    let mut sim = Simulation::new(1).step_limit(1000);
    let spin = std::future::poll_fn(|cx| {
        cx.waker().wake_by_ref();
        std::task::Poll::<()>::Pending
    });
    assert!(matches!(sim.run(spin), Err(Stuck::StepLimit { steps: 1000, .. })));
}

/// The order in which ten tasks finish that were all ready at once.
fn order_under(mut sim: Simulation) -> Vec<u32> {
    let env = sim.env();
    let order = Rc::new(RefCell::new(Vec::new()));
    for i in 0..10 {
        let order = Rc::clone(&order);
        env.spawn(Box::pin(async move { order.borrow_mut().push(i) }));
    }
    sim.run_until_idle().unwrap();
    order.take()
}

#[test]
fn the_seed_decides_the_order_of_tasks() {
    assert_eq!(order_under(Simulation::new(1)), order_under(Simulation::new(1)));
    assert_ne!(order_under(Simulation::new(1)), order_under(Simulation::new(2)));
    assert_eq!(order_under(Simulation::new(1).in_order()), (0..10).collect::<Vec<_>>());
}

#[test]
fn a_killed_process_runs_no_further_and_what_its_destructors_spawn_is_dropped() {
    struct SpawnOnDrop(SimEnv, Rc<Cell<u32>>);
    impl Drop for SpawnOnDrop {
        fn drop(&mut self) {
            let count = Rc::clone(&self.1);
            self.0.spawn(Box::pin(async move { count.set(1000) }));
        }
    }
    let mut sim = Simulation::new(7);
    let harness = sim.handle();
    let victim = harness.new_process();
    let ticks = Rc::new(Cell::new(0));
    let (env, count) = (victim.clone(), Rc::clone(&ticks));
    let answer = victim.call(async move {
        let _guard = SpawnOnDrop(env.clone(), Rc::clone(&count));
        loop {
            env.sleep(SECOND).await;
            count.set(count.get() + 1);
        }
    });
    let done: Option<()> = sim
        .run(async {
            harness.sleep(SECOND * 5 + SECOND / 2).await;
            victim.kill();
            answer.await
        })
        .unwrap();
    assert_eq!(done, None, "a call into a killed process ends");
    assert!(victim.is_dead());
    sim.run_until_idle().unwrap();
    assert_eq!(ticks.get(), 5);
}

#[test]
fn the_trace_hash_depends_on_the_seed_and_on_nothing_else() {
    let hash = |seed| {
        let mut sim = Simulation::new(seed);
        let env = sim.handle();
        let mut random = env.prng();
        for _ in 0..20 {
            let (env, pause) = (env.clone(), Duration::from_micros(random.below(100)));
            env.clone().spawn(Box::pin(async move {
                env.sleep(pause).await;
                env.note(&[1], || "woke".into());
            }));
        }
        sim.run_until_idle().unwrap();
        sim.trace_hash()
    };
    assert_eq!(hash(3), hash(3));
    assert_ne!(hash(3), hash(4));
}

#[test]
fn the_generator_is_pinned_so_that_old_seeds_keep_their_meaning() {
    let mut random = Prng::new(42);
    let first: Vec<u64> = (0..3).map(|_| random.next_u64()).collect();
    assert_eq!(first, [1546998764402558742, 6990951692964543102, 12544586762248559009]);
    let mut random = Prng::new(9);
    assert!((0..1000).all(|_| random.below(7) < 7 && (3..=5).contains(&random.between(3, 5))));
}
