"""Sources of heads behind one interface: MakeHuman, ICT-FaceKit, our own code."""
