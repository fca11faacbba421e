/* The lease protocol of hamail: who may be active, with what proof, whatever is lost, paused, late or off.

   Three voters: 0 and 1 are mail nodes, 2 is a witness. One group. Time is discrete; every step is one d_step. README.md
   says what stands for what in the code, and what is left out. check.py holds the table of variants.
   A BUG_ flag plants one mistake; the other flags switch faults on. */

#ifndef L            /* lease, ticks of the owner's clock, from before the request was sent */
#define L 2
#endif
#ifndef W            /* promise, ticks of the voter's clock, from receipt; also how long a restarted voter holds */
#define W (L+1)  /* one tick for the grain of time: what is due at a tick may be done any time before the next */
#endif
#ifndef STOPT        /* soft deadline: the stop begins when no more than this is left of the lease */
#define STOPT 0
#endif
#ifndef WD           /* the watchdog resets the machine this many ticks after it was last fed */
#define WD 1
#endif
#define WATCHDOG (PAUSES>0 || VM_PAUSES>0 || HANGS>0)   /* where nothing ever needs it, it is left out */
#ifndef D            /* wait for the watchdog after a majority has said yes (0: requires = lease) */
#define D 0
#endif
#ifndef LOG          /* entries of the log */
#define LOG 4
#endif
#ifndef RESTARTS     /* of hamaild, on any node: the voter forgets its promises, the resources go on */
#define RESTARTS 0
#endif
#ifndef REBOOTS      /* power cuts of a mail node, beyond those by fence and watchdog */
#define REBOOTS 0
#endif
#ifndef PAUSES       /* of a whole machine: its clock and its watchdog go on */
#define PAUSES 0
#endif
#ifndef VM_PAUSES    /* of a whole virtual machine: its clock and its watchdog stand still */
#define VM_PAUSES 0
#endif
#ifndef CHANGES      /* of the coordinator: the new one knows of no answer that the last one had */
#define CHANGES 0
#endif
#ifndef HANGS        /* stops that never end */
#define HANGS 0
#endif
#ifndef RATE         /* a clock may lose (owner) or gain (voter) one tick in RATE; 0: all clocks are right */
#define RATE 0
#endif

#define IDLE 1       /* phases of the group in the log */
#define HELD 2
#define WAITING 3    /* taken from an owner that cannot be asked: fencing, waiting or both */
#define NOBODY 3

#define RUNS 0       /* what may be wrong with a machine as a whole */
#define PAUSED 1
#define VM_PAUSED 2

/* ---- the log: entry i is the state of the group after it. Raft itself is not modelled. */
byte c = 1; byte owner[LOG+1]; byte epoch[LOG+1]; byte phase[LOG+1];
bool known[2]; bool this_life[2];         /* does the log know the node; is it the node's present life that it knows */
byte fence_at = 0; byte fence_of = 0;     /* fence: 0 none, 1 ordered, 2 carried out and not yet reported */

/* ---- voters */
bool up[3]; byte applied[3]; bool synced[3];
byte promise[3]; byte hold[3]; byte barred[3];   /* only promises for the newest epoch: of older ones nobody asks */

/* ---- owners, their executors and machines */
bool req[2]; byte req_epoch[2]; byte req_age[2]; byte ans[2];
byte lease_of[2]; byte left[2];
#ifdef LATE_ANSWERS  /* the request before the newest: who has promised it, and its age; 0: there is none */
byte kept[2]; byte kept_age[2];
#endif
byte on[2]; byte down[2]; bool stopping[2]; bool hung[2]; bool starved[2]; byte dog[2]; byte ill[2];
#ifdef SLOW_MOUNT
byte looked[2]; byte mounted[2];
#endif

/* ---- coordinator: which voters said yes, the watchdog's wait, and a proposal that may be committed much later */
byte yes = 0; byte wait = 0;
byte proposal = 0; byte proposed_to = 0;

/* ---- the storage: the claim, and a ghost, the largest epoch that anybody ever mounted under */
byte claim = 0; byte mounted_top = 0;

byte restarts = 0; byte reboots = 0; byte pauses = 0; byte changes = 0; byte hangs = 0;
byte lost_ago = 0; byte gained_ago = 0;

#define MAJORITY(m) ((m)==3 || (m)==5 || (m)==6 || (m)==7)
#define WELL(i) (up[i] && ill[i]==RUNS)
#define VWELL(v) (up[v] && (v==2 || ill[v]==RUNS))
#define MINE(i) (synced[i] && owner[applied[i]]==i && phase[applied[i]]==HELD)
#define SAY(what,i) printf(#what); printf(" %d\n", i)   /* spin -t tells a counterexample in these words */
#define SAY2(what,i,v) printf(#what); printf(" %d by %d\n", i, v)
#define APPEND(o,e,p) owner[c+1]=o; epoch[c+1]=e; phase[c+1]=p; c++
#define NEWS yes=0; wait=0

#ifdef BUG_YES_BARS_NOTHING
#define BAR(v,e) skip
#else
#define BAR(v,e) barred[v]=e
#endif
#ifdef BUG_BARRED_NOT_DURABLE
#define FORGET_BARRED(v) barred[v]=0
#else
#define FORGET_BARRED(v) skip
#endif
#ifdef BUG_RESTARTED_DOES_NOT_HOLD
#define HOLD 0
#else
#define HOLD W
#endif
#ifdef BUG_NO_WAIT
#define RUN_OUT(v,e) true
#else
#define RUN_OUT(v,e) (promise[v]==0)
#endif
#ifdef BUG_LEASE_FROM_RECEIPT
#define REST(i) L
#else
#define REST(i) (L-req_age[i])
#endif
#ifdef BUG_FORGOTTEN_IS_RELEASED
#define AFTER_CHANGE 7
#else
#define AFTER_CHANGE 0
#endif
#ifdef BUG_NO_WATCHDOG_WAIT
#define DOG_WAIT 0
#else
#define DOG_WAIT D
#endif
#ifdef BUG_GRANT_WITHOUT_COMPARE
#define COMPARES (phase[c]==IDLE || phase[c]==WAITING)
#else
#define COMPARES (proposal==epoch[c] && (phase[c]==IDLE || phase[c]==WAITING))
#endif
#ifdef BUG_EPOCH_REUSED
#define NEXT_EPOCH epoch[c]
#else
#define NEXT_EPOCH (c+1)
#endif
/* Without CLAIM the storage checks nothing: then the leases alone must keep the order. */
#ifndef CLAIM
#define CLAIM_ALLOWS(e) true
#else
#ifdef BUG_CLAIM_COMPARES_WRONGLY
#define CLAIM_ALLOWS(e) (claim>=e || claim==0)
#else
#define CLAIM_ALLOWS(e) (claim<=e)
#endif
#endif

/* S1: never two active. Some variants are about the claim alone: there two may be active, as is to be expected. */
#ifdef S4_ONLY
#define ALONE skip
#else
#define ALONE assert(!(on[0]>0 && on[1]>0))
#endif
/* S4: nobody mounts under an older epoch than one that was mounted before. */
#define IN_ORDER(e) assert(e>=mounted_top); mounted_top=e
#ifdef CLAIM
#define MOUNTS(i) IN_ORDER(on[i]); claim=on[i]
#else
#define MOUNTS(i) IN_ORDER(on[i])
#endif

/* ---- lease: ask, promise, count. A new request takes the place of one that was lost, or whose answers were.
   The majority's last answer is counted when it is given: to count it later changes nothing but for a paused owner. */
#ifdef LATE_ANSWERS  /* whoever promised a later request promised no less: together they uphold the older one */
#define FORGET_KEPT(i) kept[i]=0; kept_age[i]=0
#define KEEP(i) if :: req[i] && req_epoch[i]==epoch[applied[i]] -> kept[i]=ans[i]; kept_age[i]=req_age[i] \
    :: else -> FORGET_KEPT(i) fi
#define KEPT_TICK(i) if :: kept_age[i]>0 -> kept_age[i]++; if :: kept_age[i]>=L -> FORGET_KEPT(i) :: else fi :: else fi
#ifdef BUG_LATE_COUNTS_AS_NEWEST
#define KEPT_REST(i) REST(i)
#else
#define KEPT_REST(i) (L-kept_age[i])
#endif
#define LATE(i) :: d_step { req[i] && kept_age[i]>0 && MAJORITY(ans[i]|kept[i]) && WELL(i) && !stopping[i] && left[i]<KEPT_REST(i) && \
    (on[i]==0 || (on[i]==req_epoch[i] && left[i]>STOPT)) -> SAY(lease on late answers,i); lease_of[i]=req_epoch[i]; left[i]=KEPT_REST(i) }
#define RECEIVE_LATE(i,v) :: d_step { req[i] && kept_age[i]>0 && !(kept[i] & (1<<v)) && VWELL(v) && synced[v] && \
    epoch[applied[v]]==req_epoch[i] && owner[applied[v]]==i && phase[applied[v]]==HELD && barred[v]<req_epoch[i] -> \
    SAY2(late promise to,i,v); kept[i]=kept[i] | (1<<v); if :: req_epoch[i]==epoch[c] -> promise[v]=W :: else fi }
#else
#define FORGET_KEPT(i) skip
#define KEEP(i) skip
#define KEPT_TICK(i) skip
#define LATE(i)
#define RECEIVE_LATE(i,v)
#endif
#define NO_REQUEST(i) req[i]=false; req_epoch[i]=0; req_age[i]=0; ans[i]=0; FORGET_KEPT(i)
#define SEND(i) :: d_step { WELL(i) && MINE(i) && !stopping[i] && (on[i]==0 || on[i]==epoch[applied[i]]) && \
    (!req[i] || req_age[i]>0) -> SAY(send,i); KEEP(i); req[i]=true; req_epoch[i]=epoch[applied[i]]; req_age[i]=0; ans[i]=0 }
#define RENEWED(i) (MAJORITY(ans[i]) && WELL(i) && !stopping[i] && (on[i]==0 || (on[i]==req_epoch[i] && left[i]>STOPT)))
#define EXTEND(i) lease_of[i]=req_epoch[i]; left[i]=REST(i); NO_REQUEST(i)
#define RECEIVE(i,v) :: d_step { req[i] && !(ans[i] & (1<<v)) && VWELL(v) && synced[v] && epoch[applied[v]]==req_epoch[i] && \
    owner[applied[v]]==i && phase[applied[v]]==HELD && barred[v]<req_epoch[i] -> \
    SAY2(promise to,i,v); ans[i]=ans[i] | (1<<v); if :: req_epoch[i]==epoch[c] -> promise[v]=W :: else fi; \
    if :: RENEWED(i) -> EXTEND(i) :: else fi }
#define LEASE(i) :: d_step { req[i] && RENEWED(i) -> SAY(late lease,i); EXTEND(i) }

/* ---- start, two-step stop */
#define MAY_RUN(i) (WELL(i) && on[i]==0 && left[i]>STOPT && MINE(i) && epoch[applied[i]]==lease_of[i] && \
    this_life[i] && known[i] && down[i]!=lease_of[i])
#ifdef SLOW_MOUNT   /* look at the claim, mount, look again and write it: a whole machine may be paused in between */
#define START(i) \
    :: d_step { MAY_RUN(i) && mounted[i]==0 && looked[i]!=lease_of[i] && CLAIM_ALLOWS(lease_of[i]) -> looked[i]=lease_of[i] } \
    :: d_step { MAY_RUN(i) && mounted[i]==0 && looked[i]==lease_of[i] -> SAY(mounts,i); mounted[i]=lease_of[i]; IN_ORDER(mounted[i]); \
       assert(!(mounted[0]>0 && mounted[1]>0)) } \
    :: d_step { MAY_RUN(i) && mounted[i]==lease_of[i] -> \
       if :: CLAIM_ALLOWS(lease_of[i]) -> SAY(starts,i); claim=lease_of[i]; on[i]=lease_of[i]; dog[i]=(WATCHDOG -> WD : 0); ALONE :: else -> mounted[i]=0 fi; looked[i]=0 }
#define NOT_MOUNTED(i) mounted[i]=0; looked[i]=0
#else
#define START(i) :: d_step { MAY_RUN(i) && CLAIM_ALLOWS(lease_of[i]) -> \
    SAY(starts,i); on[i]=lease_of[i]; dog[i]=(WATCHDOG -> WD : 0); MOUNTS(i); ALONE }
#define NOT_MOUNTED(i) skip
#endif
#define OFF(i) on[i]=0; stopping[i]=false; hung[i]=false; NOT_MOUNTED(i)
#if HANGS > 0
#define STOP(i) :: d_step { WELL(i) && on[i]>0 && !stopping[i] -> SAY(stops,i); stopping[i]=true } \
  :: d_step { WELL(i) && stopping[i] && !hung[i] -> SAY(stopped,i); down[i]=on[i]; OFF(i) } \
  :: d_step { stopping[i] && !hung[i] && hangs<HANGS -> SAY(stop hangs,i); hangs++; hung[i]=true } STARVE(i)
#else
#define STOP(i) :: d_step { WELL(i) && on[i]>0 -> SAY(stopped,i); down[i]=on[i]; OFF(i) }
#endif
#ifdef BUG_NO_HARD_DEADLINE
#define STARVE(i)
#define HARD_OK(i) true
#else
#define STARVE(i) :: d_step { WELL(i) && on[i]>0 && left[i]==0 && stopping[i] && hung[i] && !starved[i] -> starved[i]=true }
#define HARD_OK(i) (starved[i] || !hung[i])
#endif
#define RELEASE(i) :: d_step { WELL(i) && on[i]==0 && down[i]>0 && down[i]==epoch[c] && owner[c]==i && c<LOG -> \
    SAY(released,i); APPEND(NOBODY,epoch[c],IDLE); NEWS }

/* ---- voters: what they learn, and whether their promise has run out */
#define TRIM(j) if :: (!synced[0] || applied[0]>j) && (!synced[1] || applied[1]>j) && (!synced[2] || applied[2]>j) && c>j+1 -> \
    owner[j]=0; epoch[j]=0; phase[j]=0 :: else fi   /* nobody will ever look at this entry again: fewer states */
#define VIEW(v) if :: barred[v]<epoch[applied[v]] -> barred[v]=0 :: else fi; TRIM(1); TRIM(2); TRIM(3)
#define OWN_VIEW(i) if :: down[i]!=epoch[applied[i]] || owner[applied[i]]!=i -> down[i]=0 :: else fi
#define APPLY(v) :: d_step { VWELL(v) && synced[v] && applied[v]<c -> SAY(applies,v); applied[v]++; \
    if :: v<2 -> OWN_VIEW(v%2) :: else fi; VIEW(v) }
#define SYNC(v) :: d_step { VWELL(v) && !synced[v] -> SAY(synced,v); synced[v]=true; applied[v]=c; VIEW(v) }
#define YES(v) :: d_step { VWELL(v) && synced[v] && phase[applied[v]]==WAITING && epoch[applied[v]]==epoch[c] && \
    !(yes & (1<<v)) && hold[v]==0 && RUN_OUT(v,epoch[c]) -> SAY(says yes,v); BAR(v,epoch[c]); \
    if :: !MAJORITY(yes) && MAJORITY(yes | (1<<v)) -> wait=DOG_WAIT :: else fi; yes=yes | (1<<v) } \
  :: d_step { CHANGES>0 && VWELL(v) && synced[v] && phase[applied[v]]==WAITING && barred[v]<epoch[applied[v]] && \
    hold[v]==0 && RUN_OUT(v,epoch[applied[v]]) -> BAR(v,epoch[applied[v]]) } /* the answer is lost */
#define VRESET(v) promise[v]=0; hold[v]=0; synced[v]=false; applied[v]=0; FORGET_BARRED(v)
#define RESTART(v) :: d_step { restarts<RESTARTS && VWELL(v) -> SAY(hamaild restarts,v); restarts++; VRESET(v); hold[v]=HOLD }

/* ---- coordinator, and what apply lets through */
#define LOST :: d_step { phase[c]==HELD && c<LOG -> SAY(lost,owner[c]); APPEND(owner[c],epoch[c],WAITING) }
#define BACK :: d_step { phase[c]==WAITING && yes==0 && fence_at==0 && c<LOG -> SAY(back,owner[c]); APPEND(owner[c],epoch[c],HELD); NEWS }
#define CHANGE :: d_step { changes<CHANGES -> SAY(new coordinator,0); changes++; yes=AFTER_CHANGE; wait=0 }
#define ALLOWED(i) (known[i] && !(fence_at>0 && fence_of==i))
#define GRANT(i) SAY(granted,i); APPEND(i,NEXT_EPOCH,HELD); assert(epoch[c]>epoch[c-1]); promise[0]=0; promise[1]=0; promise[2]=0; NEWS
#define TAKE(i) :: d_step { phase[c]==IDLE && ALLOWED(i) && c<LOG -> GRANT(i) }
#ifdef LATE_PROPOSALS
#define PROPOSE(i) :: d_step { proposal==0 && phase[c]==WAITING && MAJORITY(yes) && wait==0 -> SAY(grant proposed,i); proposal=epoch[c]; proposed_to=i } \
  :: d_step { proposal>0 && proposed_to==i && COMPARES && ALLOWED(i) && c<LOG -> GRANT(i); proposal=0; proposed_to=0 }
#define DROP :: d_step { proposal>0 -> proposal=0; proposed_to=0 }
#else
#define PROPOSE(i) :: d_step { phase[c]==WAITING && MAJORITY(yes) && wait==0 && ALLOWED(i) && c<LOG -> GRANT(i) }
#define DROP
#endif

/* ---- machines */
#define POWER_OFF(i) SAY(power off,i); up[i]=false; OFF(i); ill[i]=RUNS; dog[i]=0; starved[i]=false; left[i]=0; lease_of[i]=0; down[i]=0; \
    NO_REQUEST(i); VRESET(i); this_life[i]=false
#define BOOT(i) :: d_step { !up[i] -> SAY(boots,i); up[i]=true; hold[i]=HOLD }
#define CRASH(i) :: d_step { up[i] && reboots<REBOOTS -> reboots++; POWER_OFF(i) }
#define JOIN(i) :: d_step { WELL(i) && synced[i] && !(this_life[i] && known[i]) && on[i]==0 && (owner[c]!=i || c<LOG) -> \
    SAY(joins,i); known[i]=true; this_life[i]=true; \
    if :: owner[c]==i -> APPEND(NOBODY,epoch[c],IDLE); NEWS :: else fi; applied[i]=c }
#define PAUSE(i) :: d_step { WELL(i) && pauses<PAUSES -> SAY(pauses,i); pauses++; ill[i]=PAUSED } \
  :: d_step { WELL(i) && pauses<VM_PAUSES -> SAY(VM pauses,i); pauses++; ill[i]=VM_PAUSED } :: d_step { ill[i]!=RUNS -> SAY(resumes,i); ill[i]=RUNS }

/* ---- fencing */
#ifdef FENCING
#ifdef BUG_FENCE_LIES
#define CUT skip
#else
#define CUT if :: fence_of==0 -> if :: up[0] -> POWER_OFF(0) :: else fi :: else -> if :: up[1] -> POWER_OFF(1) :: else fi fi
#endif
#ifdef BUG_FENCE_ASSUMED
#define CUT_OFF (fence_at>0)
#else
#define CUT_OFF (fence_at==2)
#endif
#define FENCE :: d_step { phase[c]==WAITING && fence_at==0 -> SAY(fence ordered for,owner[c]); fence_at=1; fence_of=owner[c] } \
  :: d_step { fence_at==1 -> SAY(fence carried out on,fence_of); CUT; fence_at=2 } \
  :: d_step { fence_at==1 -> fence_at=0; fence_of=0 } /* failed, or never answered */ \
  :: d_step { CUT_OFF && (owner[c]!=fence_of || c<LOG) -> SAY(fence reported of,fence_of); fence_at=0; known[fence_of]=false; \
    if :: owner[c]==fence_of -> APPEND(NOBODY,epoch[c],IDLE); NEWS :: else fi; fence_of=0 }
#else
#define FENCE
#endif

/* ---- time. What must happen at a deadline happens before the next tick, on a machine that runs. */
#define IN_TIME(i) (!WELL(i) || on[i]==0 || ((left[i]>STOPT || stopping[i]) && (left[i]>0 || (hung[i] && HARD_OK(i)))))
#ifdef BUG_NO_WATCHDOG
#define DOG(i) skip
#else
#define DOG(i) if :: ill[i]==RUNS && !starved[i] -> dog[i]=(on[i]>0 && WATCHDOG -> WD : 0) \
    :: else -> if :: dog[i]>0 -> dog[i]-- :: else fi; if :: dog[i]==0 && on[i]>0 -> POWER_OFF(i) :: else fi fi
#endif
#define OWNER_TICK(i,slow) if :: !up[i] || ill[i]==VM_PAUSED || slow -> skip :: else -> \
    if :: left[i]>0 -> left[i]-- :: else fi; if :: left[i]==0 && on[i]==0 -> lease_of[i]=0 :: else fi; \
    KEPT_TICK(i); if :: req[i] -> req_age[i]++; if :: req_age[i]>=L -> NO_REQUEST(i) :: else fi :: else fi; DOG(i) fi
#define LESS(x) if :: x>0 -> x-- :: else fi
#define VOTER_TICK(v) LESS(hold[v]); LESS(promise[v])
#define VOTERS_TICK if :: ill[0]!=VM_PAUSED -> VOTER_TICK(0) :: else fi; if :: ill[1]!=VM_PAUSED -> VOTER_TICK(1) :: else fi; \
    VOTER_TICK(2); LESS(wait)
/* slow: the clocks of all owners lose this tick; fast: those of all voters count it twice. The extremes of all rates. */
#define TICK(slow,fast) :: d_step { IN_TIME(0) && IN_TIME(1) && (!(slow) || lost_ago==0) && (!(fast) || gained_ago==0) -> SAY(tick,0); \
    OWNER_TICK(0,slow); OWNER_TICK(1,slow); VOTERS_TICK; \
    if :: fast -> VOTERS_TICK; gained_ago=RATE-1 :: else -> LESS(gained_ago) fi; \
    if :: slow -> lost_ago=RATE-1 :: else -> LESS(lost_ago) fi }

active proctype cluster() {
  d_step {
    owner[0]=NOBODY; owner[1]=0; epoch[1]=1; phase[1]=HELD;
    up[0]=true; up[1]=true; up[2]=true; applied[0]=1; applied[1]=1; applied[2]=1;
    synced[0]=true; synced[1]=true; synced[2]=true;
    known[0]=true; known[1]=true; this_life[0]=true; this_life[1]=true
  }
  do
  SEND(0) SEND(1) RECEIVE(0,0) RECEIVE(0,1) RECEIVE(0,2) RECEIVE(1,0) RECEIVE(1,1) RECEIVE(1,2)
  LATE(0) LATE(1) RECEIVE_LATE(0,0) RECEIVE_LATE(0,1) RECEIVE_LATE(0,2) RECEIVE_LATE(1,0) RECEIVE_LATE(1,1) RECEIVE_LATE(1,2)
  LEASE(0) LEASE(1) START(0) START(1) STOP(0) STOP(1)
#ifndef NO_RELEASE
  RELEASE(0) RELEASE(1)
#endif
  APPLY(0) APPLY(1) APPLY(2) SYNC(0) SYNC(1) SYNC(2)
#ifndef FENCING_ONLY
  YES(0) YES(1) YES(2) PROPOSE(0) PROPOSE(1) DROP
#endif
  RESTART(0) RESTART(1) RESTART(2) LOST BACK CHANGE TAKE(0) TAKE(1) FENCE
  BOOT(0) BOOT(1) CRASH(0) CRASH(1) JOIN(0) JOIN(1) PAUSE(0) PAUSE(1)
  TICK(false,false)
#if RATE > 0
  TICK(true,false) TICK(false,true) TICK(true,true)
#endif
  od
}
