/** The mark of Isthmus: two bodies and the narrow bridge between them. */
export function Mark() {
  return (
    <svg className="mark" viewBox="2 9 28 14" aria-hidden="true">
      <path d="M9 9.500a6.500 6.500 0 1 0 4.600 11.100c1.500-1.300 3.300-1.300 4.800 0a6.500 6.500 0 1 0 0-9.200c-1.500 1.300-3.300 1.300-4.800 0A6.500 6.500 0 0 0 9 9.500z" />
    </svg>
  );
}
