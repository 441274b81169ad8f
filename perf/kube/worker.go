package kube

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/perf/lab"
)

// worker is the life of one pod on its node.
type worker struct {
	kubelet *kubelet
	uid     types.UID
	began   meta.Time
	ended   chan struct{}

	// ctx lasts until the pod has to end at once; terminating until it is asked to.
	ctx         context.Context
	kill        context.CancelFunc
	terminating context.Context
	terminate   context.CancelFunc

	changed chan struct{} // the pod's object, or the state of a container

	mu         sync.Mutex
	pod        *core.Pod // the latest
	box        *sandbox
	initial    []*container // init containers: one after the other, before the others
	containers []*container
	volumes    map[string]volume // by name; made before the containers start
	trouble    error             // why nothing runs
}

func newWorker(k *kubelet, pod *core.Pod) *worker {
	w := &worker{kubelet: k, uid: pod.UID, pod: pod, began: meta.Now(), ended: make(chan struct{}), changed: make(chan struct{}, 1)}
	w.ctx, w.kill = context.WithCancel(context.Background())
	w.terminating, w.terminate = context.WithCancel(w.ctx)
	return w
}

func (w *worker) key() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pod.Namespace + "/" + w.pod.Name
}

func (w *worker) object() *core.Pod {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pod
}

// update takes notice of another version of the pod's object.
func (w *worker) update(pod *core.Pod) {
	w.mu.Lock()
	w.pod = pod
	w.mu.Unlock()
	w.notice()
}

// notice has the pod's status looked at.
func (w *worker) notice() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// run starts the pod's containers and returns when the pod is no more.
func (w *worker) run() {
	defer w.kill()
	var containers sync.WaitGroup
	if w.object().DeletionTimestamp == nil {
		w.begin(&containers)
	}
	finished := make(chan struct{})
	go func() {
		containers.Wait()
		close(finished)
		w.notice()
	}()
	w.supervise()
	if w.ctx.Err() == nil {
		w.end()
	}
	w.kill()
	w.crash()
	<-finished
	w.mu.Lock()
	box := w.box
	w.mu.Unlock()
	if box != nil {
		if err := w.kubelet.removeSandbox(box); err != nil {
			w.fail(err)
		}
	}
	if err := os.RemoveAll(w.path()); err != nil {
		w.fail(err)
	}
	select {
	case <-w.kubelet.dead: // nobody is there to say so
	default:
		w.bury()
	}
}

// begin makes the pod's network and starts what it consists of.
func (w *worker) begin(containers *sync.WaitGroup) {
	pod := w.object()
	box, err := w.kubelet.makeSandbox(pod)
	if err != nil {
		w.fail(err)
		return
	}
	var all []*container
	for i := range pod.Spec.Containers {
		spec := &pod.Spec.Containers[i]
		image, err := w.kubelet.node.cluster.images.find(spec.Image)
		all = append(all, newContainer(w, spec, image, err))
	}
	var before []*container
	for i := range pod.Spec.InitContainers {
		spec := &pod.Spec.InitContainers[i]
		image, err := w.kubelet.node.cluster.images.find(spec.Image)
		if err == nil && spec.RestartPolicy != nil {
			err = errors.New("the lab has no sidecars")
		}
		before = append(before, newContainer(w, spec, image, err))
	}
	w.mu.Lock()
	w.box, w.initial, w.containers = box, before, all
	w.mu.Unlock()
	containers.Go(func() {
		if !w.prepare(pod, slices.Concat(before, all)) {
			return
		}
		for _, c := range before {
			if c.run(); !c.succeeded() {
				return
			}
		}
		for _, c := range all {
			containers.Go(c.run)
		}
	})
}

// prepare makes what the containers need, above all those that have file systems of
// their own, and says whether they are to start. What the volumes are made of may come later.
func (w *worker) prepare(pod *core.Pod, all []*container) bool {
	if err := w.writeResolver(pod); err != nil {
		w.fail(err)
		return false
	}
	if !slices.ContainsFunc(all, func(c *container) bool { return c.image.Root != nil }) {
		return true
	}
	for {
		volumes, err := w.makeVolumes(w.terminating, pod)
		w.mu.Lock()
		w.volumes, w.trouble = volumes, err
		w.mu.Unlock()
		w.notice()
		if err == nil {
			return true
		}
		if !pause(w.terminating, retryDelay) {
			return false
		}
	}
}

// supervise reports the pod's status until the pod is to end.
func (w *worker) supervise() {
	var written string
	for {
		pod := w.object()
		if pod.DeletionTimestamp != nil {
			return
		}
		retry := w.report(pod, &written)
		select {
		case <-w.ctx.Done():
			return
		case <-w.changed:
		case <-retry:
		}
	}
}

// end asks the containers to end and kills those that have not when their time is
// over. The status of those that go on for a while is kept up.
func (w *worker) end() {
	pod := w.object()
	grace := time.Duration(core.DefaultTerminationGracePeriodSeconds) * time.Second
	if s := pod.DeletionGracePeriodSeconds; s != nil {
		grace = time.Duration(*s) * time.Second
	}
	w.terminate()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		var wg sync.WaitGroup
		for _, c := range w.allContainers() {
			wg.Go(func() { c.stop(w.ctx, grace) })
		}
		wg.Wait()
	}()
	var written string
	for {
		retry := w.report(w.object(), &written)
		select {
		case <-ended:
			return
		case <-w.changed:
		case <-retry:
		}
	}
}

// bury writes the last status and removes the pod's object.
func (w *worker) bury() {
	pod := w.object()
	pods := w.kubelet.node.cluster.client.CoreV1().Pods(pod.Namespace)
	for {
		select {
		case <-w.kubelet.dead:
			return
		default:
		}
		ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
		err := w.write(ctx, pod, w.status(pod))
		if err == nil {
			now := int64(0)
			err = pods.Delete(ctx, pod.Name, meta.DeleteOptions{GracePeriodSeconds: &now, Preconditions: &meta.Preconditions{UID: &w.uid}})
		}
		cancel()
		if err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			return
		}
		time.Sleep(retryDelay)
	}
}

// fail says why the pod does not run.
func (w *worker) fail(err error) {
	w.mu.Lock()
	w.trouble = errors.Join(w.trouble, err)
	w.mu.Unlock()
	w.notice()
}

// allContainers are the init containers, and then the others.
func (w *worker) allContainers() []*container {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Concat(w.initial, w.containers)
}

// host is the pod's network namespace.
func (w *worker) host() (*lab.Host, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.box == nil {
		return nil, fmt.Errorf("pod %s/%s has no network yet", w.pod.Namespace, w.pod.Name)
	}
	return w.box.host, nil
}

// crash kills the containers' processes.
func (w *worker) crash() error {
	var errs []error
	for _, c := range w.allContainers() {
		errs = append(errs, c.crash())
	}
	return errors.Join(errs...)
}
