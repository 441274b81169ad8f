package watch

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/util/resourceversion"
)

// compareEvery is how often it is looked whether the API server still lives in the
// same time as the copies.
const compareEvery = 2 * time.Minute

// flag is raised for whoever waits for it.
type flag chan struct{}

func (f flag) set() {
	select {
	case f <- struct{}{}:
	default:
	}
}

// compareTimes has the objects listed anew when the API server's database turns
// out to be older than what is known. An API server whose database was restored
// from a backup takes a watch from a version that it has not reached, and is silent
// until it has; so that cannot be left to the watch.
func (o *Objects[T]) compareTimes(ctx context.Context) {
	ticker := time.NewTicker(compareEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-o.back:
		}
		known := o.Version()
		if known == "" {
			continue
		}
		options := o.options()
		options.Limit = 1
		list, err := o.lister.list(ctx, options)
		if err != nil {
			continue // the watch will find out for itself
		}
		if m, err := meta.ListAccessor(list); err == nil && earlier(m.GetResourceVersion(), known) {
			o.mu.Lock()
			again := o.again
			o.mu.Unlock()
			again()
			return
		}
	}
}

// earlier reports whether a resource version is known to be from before another.
func earlier(version, than string) bool {
	order, err := resourceversion.CompareResourceVersion(version, than)
	return err == nil && order < 0
}
