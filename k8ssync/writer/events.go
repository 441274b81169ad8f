package writer

import (
	"context"
	"log/slog"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	clientevents "k8s.io/client-go/tools/events"

	"fairlead/k8ssync/kube"
)

// What was being done, in Events.
const (
	ActionAssign  = "Assign"
	ActionRelease = "Release"
	ActionProgram = "Program"
	ActionRead    = "Read"
)

// Reasons of Events that are no problems of an object.
const (
	EventAssigned = "AddressAssigned"
	EventReleased = "AddressReleased"
	EventFailed   = "AllocationFailed" // it is tried again
)

// maxTold bounds what is remembered of Events.
const maxTold = 100_000

// Events tell whoever looks at an object what became of it. The same thing is not
// told again within half an hour; told again it becomes one Event with a count.
type Events struct {
	broadcaster clientevents.EventBroadcaster
	recorder    clientevents.EventRecorder
	stop        context.CancelFunc

	mu   sync.Mutex
	told map[types.UID]map[string]time.Time
	n    int
}

// NewEvents begins to write Events; Close ends it. The scheme has the types of the
// objects that they are about; nil: those of Kubernetes itself.
func NewEvents(client kubernetes.Interface, known *runtime.Scheme, log *slog.Logger) *Events {
	if known == nil {
		known = scheme.Scheme
	}
	ctx, cancel := context.WithCancel(context.Background())
	e := &Events{
		broadcaster: clientevents.NewBroadcaster(&clientevents.EventSinkImpl{Interface: client.EventsV1()}),
		stop:        cancel, told: map[types.UID]map[string]time.Time{},
	}
	if err := e.broadcaster.StartRecordingToSinkWithContext(ctx); err != nil {
		log.Warn("no Events are written", "error", err)
	}
	e.recorder = e.broadcaster.NewRecorder(known, kube.Class)
	return e
}

// Close ends writing.
func (e *Events) Close() {
	e.broadcaster.Shutdown()
	e.stop()
}

// Object is what an Event is about.
type Object interface {
	runtime.Object
	metav1.Object
}

// Tell writes an Event, if it has not been written lately. action is what was
// being done.
func (e *Events) Tell(about Object, p kube.Problem, action string) {
	if !e.news(about.GetUID(), p.Reason+"\x00"+p.Message) {
		return
	}
	kind := corev1.EventTypeNormal
	if p.Severity == kube.Warning {
		kind = corev1.EventTypeWarning
	}
	e.recorder.Eventf(about, nil, kind, p.Reason, action, "%s", clip(p.Message))
}

func (e *Events) news(uid types.UID, what string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if at, is := e.told[uid][what]; is && time.Since(at) < remind {
		return false
	}
	if e.n++; e.n > maxTold {
		clear(e.told)
		e.n = 1
	}
	if e.told[uid] == nil {
		e.told[uid] = map[string]time.Time{}
	}
	e.told[uid][what] = time.Now()
	return true
}

// Forget has everything about an object be news again.
func (e *Events) Forget(uid types.UID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.told, uid)
}
