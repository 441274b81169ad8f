package kube

import (
	"context"
	"sync"
	"time"

	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
)

// kubeletPort is where a kubelet serves what kubectl exec and logs ask for.
const kubeletPort = 10250

// kubelet runs the pods of one node.
type kubelet struct {
	node      *Node
	addresses *podAddresses
	dead      chan struct{} // closed when the node has failed

	mu      sync.Mutex
	workers map[types.UID]*worker
}

func newKubelet(n *Node) *kubelet {
	return &kubelet{node: n, addresses: newPodAddresses(n.Pods4, n.Pods6), dead: make(chan struct{}), workers: map[types.UID]*worker{}}
}

// watchPods tells each node's kubelet of its pods until ctx ends, and returns when
// none of them runs any more.
func (c *Cluster) watchPods(ctx context.Context) {
	factory := informers.NewSharedInformerFactory(c.client, 0)
	informer := factory.Core().V1().Pods().Informer()
	seen := func(pod *core.Pod) {
		if n := c.Node(pod.Spec.NodeName); n != nil {
			n.kubelet.seen(pod)
		}
	}
	// It fails only for an informer that has been stopped.
	_, _ = informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { seen(o.(*core.Pod)) },
		UpdateFunc: func(_, o any) { seen(o.(*core.Pod)) },
		DeleteFunc: func(o any) {
			if unknown, ok := o.(cache.DeletedFinalStateUnknown); ok {
				o = unknown.Obj
			}
			if pod, ok := o.(*core.Pod); ok {
				if n := c.Node(pod.Spec.NodeName); n != nil {
					n.kubelet.deleted(pod)
				}
			}
		},
	})
	factory.StartWithContext(ctx)
	<-ctx.Done()
	factory.Shutdown()
	for _, n := range c.Nodes {
		n.kubelet.die()
	}
}

// seen takes notice of what is to be of a pod.
func (k *kubelet) seen(pod *core.Pod) {
	k.mu.Lock()
	defer k.mu.Unlock()
	select {
	case <-k.dead:
		return
	default:
	}
	if w := k.workers[pod.UID]; w != nil {
		w.update(pod)
		return
	}
	if pod.Status.Phase == core.PodSucceeded || pod.Status.Phase == core.PodFailed {
		return
	}
	w := newWorker(k, pod)
	k.workers[pod.UID] = w
	go func() {
		defer close(w.ended)
		w.run()
		k.mu.Lock()
		delete(k.workers, pod.UID)
		k.mu.Unlock()
	}()
}

// deleted ends a pod whose object is gone already.
func (k *kubelet) deleted(pod *core.Pod) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if w := k.workers[pod.UID]; w != nil {
		w.kill()
	}
}

// die ends all pods at once, and the kubelet with them. It may be called again.
func (k *kubelet) die() {
	k.mu.Lock()
	select {
	case <-k.dead:
	default:
		close(k.dead)
	}
	k.mu.Unlock()
	all := k.all()
	for _, w := range all {
		w.kill()
	}
	for _, w := range all {
		<-w.ended
	}
}

func (k *kubelet) all() (all []*worker) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, w := range k.workers {
		all = append(all, w)
	}
	return all
}

func (k *kubelet) worker(namespace, name string) *worker {
	for _, w := range k.all() {
		if w.key() == namespace+"/"+name {
			return w
		}
	}
	return nil
}

// pause waits, and says whether ctx still lasts.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
