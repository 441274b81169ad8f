package dataplane

import "fairlead/dataplane/flow"

// OpenUnknown takes one frame from the worker's first queue and carries it as if
// its flow had not been known when it was looked up: another worker has opened
// it since.
func (w *Worker) OpenUnknown() {
	b := &w.main
	if w.receive(0) != 1 {
		panic("there is not one frame")
	}
	for i := range b.n {
		w.classify(b, i)
	}
	in := Input{Snapshot: w.snapshot, Frame: w.Pool.Bytes(b.frames[0]), Info: &b.infos[0], Local: b.locals[0]}
	w.hash = b.hashes[0]
	v := none
	decide(&in, &v)
	w.open(b.frames[0], &in, flow.NoRef, &v)
	b.n = 0
	w.flushAll()
	w.refill()
}
