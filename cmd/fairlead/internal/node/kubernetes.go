package node

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"fairlead/configs"
	"fairlead/controlplane/metrics"
	"fairlead/k8ssync"
	"fairlead/k8ssync/kube"
	"fairlead/k8ssync/report"
)

// kubernetes is how this node serves a Kubernetes cluster.
type kubernetes struct {
	settings kube.Settings
	changes  *metrics.KubernetesChanges
	lag      atomic.Int64                 // nanoseconds that the last change took; 0: there was none
	sync     atomic.Pointer[k8ssync.Sync] // nil before Kubernetes, and after
	failed   atomic.Pointer[error]        // why there is no sync
}

// newKubernetes is nil when the node serves no Kubernetes cluster.
func newKubernetes(cfg *configs.Kubernetes) *kubernetes {
	if !cfg.Enabled {
		return nil
	}
	return &kubernetes{settings: KubernetesSettings(cfg), changes: metrics.NewKubernetesChanges()}
}

// Kubernetes keeps the node in step with the Kubernetes cluster that it serves,
// until ctx ends. It is called when the node forwards and takes changes.
func (n *Node) Kubernetes(ctx context.Context) error {
	k := n.kubernetes
	if k == nil || n.desired == nil {
		<-ctx.Done()
		return nil
	}
	log := n.log.With("part", "kubernetes")
	s := k.open(ctx, log, k8ssync.Config{
		Settings: k.settings, Sink: n.desired.Kubernetes(), Fellows: n.fellows(), UserAgent: "fairlead/" + Version, Observe: k.observe, Log: log,
	})
	if s == nil {
		return nil
	}
	k.sync.Store(s)
	defer k.sync.Store(nil)
	return s.Run(ctx)
}

// retryKubernetes is how often files are looked at again that cannot be used, such
// as a kubeconfig that is not there yet. The node serves meanwhile.
const retryKubernetes = 5 * time.Second

// open makes the Sync, as soon as that is possible. It is nil when ctx has ended
// before.
func (k *kubernetes) open(ctx context.Context, log *slog.Logger, cfg k8ssync.Config) *k8ssync.Sync {
	for {
		s, err := k8ssync.New(cfg)
		if err == nil {
			return s
		}
		if before := k.failed.Swap(&err); before == nil || (*before).Error() != err.Error() {
			log.Error("Kubernetes cannot be reached with these settings; it is tried again", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(retryKubernetes):
		}
	}
}

// fellows are the nodes of Fairlead that serve the same cluster.
func (n *Node) fellows() kube.Fellows {
	if n.cluster != nil && n.cluster.fellows != nil {
		return n.cluster.fellows
	}
	return report.NewAlone(n.cfg.Node.Name)
}

func (k *kubernetes) observe(o k8ssync.Observation) {
	k.lag.Store(int64(o.Event))
	k.changes.Observe(metrics.ChangeFromEvent, o.Event)
	if o.Trigger > 0 {
		k.changes.Observe(metrics.ChangeFromTrigger, o.Trigger)
	}
}
