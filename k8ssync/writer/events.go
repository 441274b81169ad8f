package writer

import (
	"context"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	clientevents "k8s.io/client-go/tools/events"

	"fairlead/k8ssync/kube"
)

// What was being done, in Events.
const (
	actionAssign  = "Assign"
	actionRelease = "Release"
	actionProgram = "Program"
	actionRead    = "Read"
)

// Reasons of Events that are no problems.
const (
	EventAssigned = "AddressAssigned"
	EventReleased = "AddressReleased"
	EventFailed   = "AllocationFailed" // it is tried again
)

// maxNote is what Kubernetes takes.
const maxNote = 1024

// events are told to whoever looks at an object. Those that repeat become one with
// a count.
type events struct {
	broadcaster clientevents.EventBroadcaster
	recorder    clientevents.EventRecorder
	stop        context.CancelFunc
}

func newEvents(client kubernetes.Interface, log *slog.Logger) *events {
	ctx, cancel := context.WithCancel(context.Background())
	e := &events{broadcaster: clientevents.NewBroadcaster(&clientevents.EventSinkImpl{Interface: client.EventsV1()}), stop: cancel}
	if err := e.broadcaster.StartRecordingToSinkWithContext(ctx); err != nil {
		log.Warn("no Events are written", "error", err)
	}
	e.recorder = e.broadcaster.NewRecorder(scheme.Scheme, kube.Class)
	return e
}

func (e *events) close() {
	e.broadcaster.Shutdown()
	e.stop()
}

// tell writes an Event, if it has not been written lately.
func (e *events) tell(svc *corev1.Service, o *object, p kube.Problem, action string) {
	what := p.Reason + "\x00" + p.Message
	if at, is := o.told[what]; is && time.Since(at) < remind {
		return
	}
	if len(o.told) > 100 {
		clear(o.told) // a message with something in it that changes all the time
	}
	o.told[what] = time.Now()
	kind := corev1.EventTypeNormal
	if p.Severity == kube.Warning {
		kind = corev1.EventTypeWarning
	}
	note := clip(p.Message)
	if len(note) > maxNote {
		note = note[:maxNote]
	}
	e.recorder.Eventf(svc, nil, kind, p.Reason, action, "%s", note)
}

// again has an Event of this kind be written although it was lately.
func (o *object) again() { clear(o.told) }
