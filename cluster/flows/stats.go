package flows

import (
	"slices"
	"sync/atomic"
)

// counters are what the room counts. They are read by anybody at any time.
type counters struct {
	told     [kinds]atomic.Uint64 // flows put into a message, however many nodes it went to
	received [kinds]atomic.Uint64

	batches, sentMessages, sentBytes, sendErrors               atomic.Uint64
	receivedBatches, receivedBytes, badMessages                atomic.Uint64
	taken, refused, unresolved, resolvedLater                  atomic.Uint64
	unresolvedDropped, dropped, unknown                        atomic.Uint64
	asked, askedAgain                                          atomic.Uint64
	overflows, scans, scanErrors, resyncs                      atomic.Uint64
	adoptions, adoptErrors, newer, badBases, askErrors, rounds atomic.Uint64

	steady, prepare, settle atomic.Uint64 // entries of pools written
}

// phase counts the entries that were written with a phase.
func (c *counters) phase(p Phase) *atomic.Uint64 {
	switch p {
	case Prepare:
		return &c.prepare
	case Settle:
		return &c.settle
	}
	return &c.steady
}

// Stats is what the room has counted since it began, and what is the case.
type Stats struct {
	Told     map[Kind]uint64 // flows that this node told of, however many nodes it told
	Received map[Kind]uint64

	SentMessages, SentBytes, SendErrors       uint64 // counted for each node that they went to
	ReceivedMessages, ReceivedBytes           uint64
	Taken                                     uint64 // flows of others that the data path took over
	Refused                                   uint64 // such that it could not take over
	Unresolved, ResolvedLater, UnresolvedLost uint64 // such whose service or backend was not known yet; known later; not in time
	Dropped                                   uint64 // such for which there was no room; their tellers were asked again
	BadMessages, UnknownKinds                 uint64
	Overflows                                 uint64 // times that the data path had more to tell than room
	Resyncs, Scans, ScanErrors                uint64
	BasesNewer, BasesBad, AdoptErrors         uint64
	BasesSteady, BasesPrepared, BasesReplaced uint64 // entries that this node wrote

	Waiting int // flows that wait to be resolved
	Pools   int // with a base
	Moving  int // of these, whose base is being replaced
	Leads   bool
	Behind  []string // nodes that are not in step with what this one tells
}

// Stats is what there is to be counted and shown.
func (r *Room) Stats() Stats {
	c := r.core.stats
	s := Stats{
		Told: map[Kind]uint64{}, Received: map[Kind]uint64{},
		SentMessages: c.sentMessages.Load(), SentBytes: c.sentBytes.Load(), SendErrors: c.sendErrors.Load(),
		ReceivedMessages: c.receivedBatches.Load(), ReceivedBytes: c.receivedBytes.Load(),
		Taken: c.taken.Load(), Refused: c.refused.Load(),
		Unresolved: c.unresolved.Load(), ResolvedLater: c.resolvedLater.Load(), UnresolvedLost: c.unresolvedDropped.Load(),
		Dropped: c.dropped.Load(), BadMessages: c.badMessages.Load(), UnknownKinds: c.unknown.Load(),
		Overflows: c.overflows.Load(), Resyncs: c.resyncs.Load(), Scans: c.scans.Load(), ScanErrors: c.scanErrors.Load(),
		BasesNewer: c.newer.Load(), BasesBad: c.badBases.Load(), AdoptErrors: c.adoptErrors.Load(),
		BasesSteady: c.steady.Load(), BasesPrepared: c.prepare.Load(), BasesReplaced: c.settle.Load(),
	}
	for k := Established; k < kinds; k++ {
		s.Told[k], s.Received[k] = c.told[k].Load(), c.received[k].Load()
	}
	r.wait(func() {
		s.Waiting, s.Leads = len(r.core.receiver.pending), r.core.coordinator.active
		for _, f := range r.core.follower.followed {
			if f.gone {
				continue
			}
			s.Pools++
			if f.want.Phase != Steady {
				s.Moving++
			}
		}
		for name, p := range r.core.teller.peers {
			if !p.inStep {
				s.Behind = append(s.Behind, name)
			}
		}
	})
	slices.Sort(s.Behind)
	return s
}
