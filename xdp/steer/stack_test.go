package steer

import (
	"testing"

	"github.com/cilium/ebpf/asm"
)

// TestNothingOnTheStack reads the program: none of its instructions stores to
// the stack. Each such store would cost a speculation barrier in a program that
// is loaded without CAP_PERFMON (see bpf/scratch.h).
func TestNothingOnTheStack(t *testing.T) {
	spec, err := loadObject()
	if err != nil {
		t.Fatal(err)
	}
	instructions := spec.Programs[objectProgSteer].Instructions
	if len(instructions) < 500 {
		t.Fatalf("%d instructions", len(instructions))
	}
	for i, ins := range instructions {
		if class := ins.OpCode.Class(); class != asm.StClass && class != asm.StXClass {
			continue
		}
		if ins.Dst == asm.RFP {
			t.Errorf("instruction %d stores to the stack: %v (%v)", i, ins, ins.Source())
		}
	}
}
