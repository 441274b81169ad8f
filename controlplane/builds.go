package controlplane

import "time"

// Builds are generations that were published in one way.
type Builds struct {
	Count uint64
	Time  time.Duration // to work them out and put them in force, all together
}

func (b *Builds) add(took time.Duration) {
	b.Count++
	b.Time += took
}

// built notes how the generation that was just published came about.
func (r *Reconciler) built(took time.Duration, patched bool) {
	r.took, r.patched = took, patched
	if patched {
		r.patches.add(took)
	} else {
		r.full.add(took)
	}
}
